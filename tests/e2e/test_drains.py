"""Drains to real receivers: rsyslog over TLS, object storage, OTLP, Fluentd's protocol and JSON over HTTP.

In calm each line of an application arrives at each of them once. While the control plane is killed over and
over, and each receiver once, each line arrives at least once. And Prometheus scrapes.
"""

import importlib.util
import json
import pathlib
import random
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.request

from support import host, images, receivers
from support.case import EkidenCase, settings
from support.wait import until

# Prints COUNT lines, ten at a time, beside a web server.
SCRIPT = """httpd -p 8080 -h /www
i=0
while [ $i -lt $COUNT ]; do
  i=$((i + 1))
  echo "$MARK $i"
  [ $((i % 10)) = 0 ] && sleep 0.1
done
exec sleep 1000000"""

CALM_LINES = 1000
KILLED_LINES = 2000

# Object storage is written once a minute.
ARRIVAL_SECONDS = 150

GTLS = "lmnsd_gtls.so"


class Drains(EkidenCase):
    label = "drain"

    @classmethod
    def setUpClass(cls):
        lacking = host.missing("rsyslogd", "openssl")
        lacking += [name for name in ("opentelemetry", "msgpack", "moto")
                    if importlib.util.find_spec(name) is None]
        if not any(pathlib.Path("/usr/lib").glob(f"*/rsyslog/{GTLS}")):
            lacking.append("rsyslog-gnutls")
        if lacking:
            raise unittest.SkipTest(f"not installed: {', '.join(lacking)}")
        cls.check_host()
        cls.image = images.tiny("drains", ("sh", "-c", SCRIPT))
        cls.start_ekiden()
        cls.directory = tempfile.mkdtemp(prefix="ekiden-receivers-")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        pathlib.Path(cls.directory).chmod(0o755)
        cls.receivers = {}
        for name, make in {
            "json": receivers.posted_json,
            "otlp": receivers.posted_otlp,
            "fluent": receivers.forwarded,
            "syslog": lambda: receivers.Rsyslog(cls.directory),
            "bucket": lambda: receivers.Bucket(cls.directory),
        }.items():
            cls.receivers[name] = receiver = make()
            cls.addClassCleanup(receiver.close)
        cls.add_drains()

    @classmethod
    def add_drains(cls):
        to = cls.receivers
        ca = pathlib.Path(cls.directory) / "ca.pem"
        cls.add("json", f"http://127.0.0.1:{to['json'].port}/lines", "headers.authorization=env:TOKEN")
        cls.add("otlp", f"otlp+http://127.0.0.1:{to['otlp'].port}", "headers.authorization=env:TOKEN")
        cls.add("fluent", f"fluent://127.0.0.1:{to['fluent'].port}")
        cls.add("syslog", f"syslog+tls://localhost:{to['syslog'].port}?ca_file={ca}")
        cls.add("bucket", f"s3://{receivers.BUCKET}/all?endpoint={to['bucket'].moto.endpoint}",
                "access_key_id=env:KEY", "secret_access_key=env:SECRET")

    @classmethod
    def add(cls, name, url, *secrets):
        flags = [word for secret in secrets for word in ("--secret", secret)]
        environment = {**host.environment(), "TOKEN": receivers.TOKEN, "KEY": "key", "SECRET": "secret"}
        cls.ekiden.cli("drain", "add", name, "--to", url, *flags, env=environment)
        cls.ekiden.cli("drain", "test", name)

    def printing(self, mark, count):
        environment = {"MARK": mark, "COUNT": str(count)}
        return self.running(f"drain-{mark}", self.image, env=environment)

    def drains(self):
        return {drain["Name"]: drain["Status"] for drain in self.ekiden.native("ListDrains")["Drains"]}

    def arrive(self, mark, count):
        """Waits until every receiver has every line; how often each came, by receiver."""
        wanted = set(range(1, count + 1))
        for name, receiver in self.receivers.items():
            until(f"all lines: {name}", lambda: set(receiver.counts(mark)) >= wanted, ARRIVAL_SECONDS,
                  lambda: f"{len(receiver.counts(mark))} of {count}\n"
                          f"{json.dumps(self.drains(), indent=1)}\n{self.ekiden.tail()}")
        return {name: receiver.counts(mark) for name, receiver in self.receivers.items()}

    def test_in_calm_each_line_arrives_once(self):
        self.printing("calm", CALM_LINES)
        arrived = self.arrive("calm", CALM_LINES)
        until("nothing behind", lambda: not any(d["BehindLines"] for d in self.drains().values()), 90)
        for name, receiver in self.receivers.items():
            counts = receiver.counts("calm")
            twice = {number: count for number, count in counts.items() if count != 1}
            self.assertEqual(twice, {}, name)
            self.assertEqual(len(counts), CALM_LINES, name)
        self.assertEqual(set(arrived), set(self.receivers))
        for name, status in self.drains().items():
            self.assertEqual((status["LinesRejected"], status["LinesLost"]), (0, 0), name)
            self.assertGreaterEqual(status["LinesSent"], CALM_LINES, name)
        listed = self.ekiden.cli("drain", "ls")
        self.assertIn("running", listed)
        self.assertNotIn(receivers.TOKEN, listed + self.ekiden.tail(10_000))

    def test_no_line_is_lost_when_control_and_receivers_are_killed(self):
        kills = max(settings.KILLS, 2) + 3
        service = self.service("drain-kill", self.image,
                               env={"MARK": "kill", "COUNT": str(KILLED_LINES)})
        for number in range(kills):
            # A fault has no state to wait for: it comes when it comes.
            time.sleep(random.uniform(0.2, 3))
            pid = self.ekiden.pid("control")
            host.kill(pid)
            until("dead: control", lambda: not host.alive(pid))
            if number == 1:
                for receiver in self.receivers.values():
                    receiver.stop()
            until("another control", lambda: self.ekiden.pid("control") not in (None, pid), 30,
                  self.ekiden.tail)
            self.ekiden.wait_serves()
            if number == 2:
                for receiver in self.receivers.values():
                    receiver.start()
        arrived = self.arrive("kill", KILLED_LINES)
        more = {name: sum(counts.values()) - KILLED_LINES for name, counts in arrived.items()}
        print(f"    {kills} kills of control; lines that came again: {more}", flush=True)
        # Names of objects follow from what is in them: a batch that was sent again is the same object.
        self.assertEqual(more["bucket"], 0)
        self.assertEqual(self.status(service["ServiceArn"]), "RUNNING")


class Scraped(EkidenCase):
    label = "scraped"

    @classmethod
    def setUpClass(cls):
        if lacking := host.missing("prometheus", "promtool"):
            raise unittest.SkipTest(f"not installed: {', '.join(lacking)}")
        cls.check_host()
        cls.start_ekiden()
        cls.directory = tempfile.mkdtemp(prefix="ekiden-prometheus-")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        cls.prometheus = receivers.Prometheus(cls.directory, cls.ekiden)
        cls.addClassCleanup(cls.prometheus.close)

    def counted(self, service):
        return self.prometheus.ask(
            f'sum(ekiden_requests_total{{service_id="{service["ServiceId"]}",status="2xx"}})')

    def test_every_request_is_counted_once(self):
        service = self.running("scraped", images.tiny())
        for _ in range(123):
            self.assertEqual(self.ekiden.get(service)[0], 200)
        until("all are counted", lambda: self.counted(service) == 123, 30, lambda: str(self.counted(service)))
        self.prometheus.stop()
        for _ in range(77):
            self.ekiden.get(service)
        self.prometheus.start()
        until("those of meanwhile too", lambda: self.counted(service) == 200, 30,
              lambda: str(self.counted(service)))
        pid = self.ekiden.pid("control")
        host.kill(pid)
        until("another control", lambda: self.ekiden.pid("control") not in (None, pid), 30, self.ekiden.tail)
        until("scraped again", lambda: self.prometheus.ask("up") == 1
              and self.prometheus.ask("time() - timestamp(up)") < 5, 30)
        for _ in range(10):
            self.ekiden.get(service)
        # It counts from nothing again, as Prometheus expects of what was restarted.
        until("counted anew", lambda: self.counted(service) == 10, 30, lambda: str(self.counted(service)))

    def test_promtool_has_nothing_to_say(self):
        service = self.running("checked", images.tiny())
        self.ekiden.get(service)
        self.ekiden.get(service, "/nothing")
        key = self.ekiden.key()
        password = urllib.request.HTTPPasswordMgrWithPriorAuth()
        password.add_password(None, self.ekiden.endpoint, key["access_key_id"], key["secret_access_key"],
                              is_authenticated=True)
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(password))

        def measured():
            text = opener.open(f"{self.ekiden.endpoint}/metrics").read()
            return text if b'service="checked"' in text else None

        text = until("it is measured", measured)
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, b""))
        print(f"    {text.count(b'# TYPE')} families, {len(text.splitlines())} lines", flush=True)
