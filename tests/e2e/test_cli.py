"""The command line, verb by verb, as a person meets it."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import struct
import subprocess
import tempfile
import termios
import threading

from support import host, images, oci, settings
from support.case import EkidenCase
from support.wait import until


class Watched:
    """A context: `top` of a service on a terminal of its own."""

    def __init__(self, ekiden, service):
        self.terminal, self.inside = pty.openpty()
        fcntl.ioctl(self.inside, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.before = termios.tcgetattr(self.inside)
        self.drawn = bytearray()
        self.process = subprocess.Popen(
            [settings.BINARY, "top", service, "--every", "1", "--config", ekiden.config],
            stdin=self.inside, stdout=self.inside, stderr=self.inside, start_new_session=True,
            env={**host.environment(), "TERM": "xterm"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)
        os.close(self.inside)

    def seen(self):
        return bytes(self.drawn)

    def forget(self):
        """What was drawn so far is not looked at any more."""
        self.draws(b"")
        self.drawn.clear()

    def draws(self, pattern):
        while select.select([self.terminal], [], [], 0)[0]:
            self.drawn.extend(os.read(self.terminal, 65536))
        return re.search(pattern, self.drawn)

    def press(self, key):
        os.write(self.terminal, key)

    def is_taken_over(self):
        return termios.tcgetattr(self.inside) != self.before


class CommandLine(EkidenCase):
    label = "cli"

    def cli(self, *arguments):
        return self.ekiden.cli(*arguments)

    def fails(self, *arguments):
        """What a command that must fail says."""
        done = self.ekiden.cli(*arguments, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn("error: ", done.stderr)
        return done.stderr

    def deployed(self, name, *more):
        self.cli("deploy", "--name", name, "--image", images.web(), *more)
        described = self.ekiden.cli_json("describe", name)
        service = described.get("Service", described)
        self.addCleanup(self.remove, service["ServiceArn"])
        return service

    def test_a_service_from_deploy_to_delete(self):
        service = self.deployed("walk", "--port", "8080", "--env", "GREETING=walked",
                                "--health-path", "/health")
        self.assertEqual(service["Status"], "RUNNING")
        self.assertEqual(self.ekiden.whoami(service)["greeting"], "walked")
        self.cli("deploy", "--name", "walk", "--image", images.web(), "--env", "GREETING=again")
        self.assertEqual(self.ekiden.whoami(service)["revision"], "2")
        self.assertIn("walk", self.cli("ps"))
        self.assertIn("RUNNING", self.cli("ps"))
        self.assertIn("walk", json.dumps(self.ekiden.cli_json("ps")))
        self.assertIn(service["ServiceUrl"], self.cli("describe", "walk"))
        self.assertIn("listening", self.cli("logs", "walk"))
        self.cli("pause", "walk")
        self.assertEqual(self.status(service["ServiceArn"]), "PAUSED")
        self.cli("resume", "walk")
        self.assertEqual(self.status(service["ServiceArn"]), "RUNNING")
        self.cli("delete", "walk")
        until("deleted", lambda: self.status(service["ServiceArn"]) == "DELETED")

    def test_a_deployment_that_fails_says_why(self):
        said = self.fails("deploy", "--name", "failing", "--image", images.web(),
                          "--env", "BROKEN=exit")
        arn = self.arn("failing")
        self.addCleanup(self.remove, arn)
        self.assertIn("exited with code 3", said)
        self.assertIn("cannot find the configuration", said)

    def arn(self, name):
        services = self.ekiden.client().list_services()["ServiceSummaryList"]
        return next(s["ServiceArn"] for s in services if s["ServiceName"] == name)

    def test_logs_follow(self):
        service = self.deployed("logs-1")
        follow = subprocess.Popen(
            [settings.BINARY, "logs", "--follow", "logs-1", "--config", self.ekiden.config],
            stdout=subprocess.PIPE, text=True, env=host.environment())
        self.addCleanup(follow.stdout.close)
        self.addCleanup(follow.wait)
        self.addCleanup(follow.kill)
        self.answers(service, "/log?lines=3&text=followed")
        for line in follow.stdout:
            if "followed 2" in line:
                break
        else:
            self.fail("the logs ended before the line came")

    def test_top_shows_what_is_asked_for(self):
        service = self.deployed("busy", "--health-path", "/health")
        with self.asked_steadily(service):
            busy = until("requests are counted, and what instances use", self.busy)
            self.assertEqual((busy["Status"], busy["InstancesReady"]), ("RUNNING", 1))
            self.assertGreater(busy["Rates"]["LatencyMillisP99"], 0)
            self.assertEqual(busy["Rates"]["ErrorsPercent"], 0)
            table = self.cli("top", "busy", "--once", "--every", "1", "--sort", "name")
            self.assertRegex(table, r"(?m)^busy +RUNNING +1/0/0 ")
            self.assertIn(busy["Instances"][0]["InstanceId"], table)
            for leave in (b"q", b"\x03"):
                with Watched(self.ekiden, "busy") as top:
                    until("rates are drawn", lambda: top.draws(rb" 0\.0 % "), debug=top.seen)
                    self.assertTrue(top.seen().startswith(b"\x1b[?1049h"), top.seen())
                    self.assertIn(b"q leaves", top.seen())
                    self.assertTrue(top.is_taken_over())
                    top.press(leave)
                    self.assertEqual(top.process.wait(10), 0)
                    self.assertTrue(top.draws(rb"\x1b\[\?1049l"), top.seen())
                    self.assertIn(b"\x1b[?25h", top.seen())
                    self.assertFalse(top.is_taken_over())
        self.fails("top", "nobody")

    def busy(self):
        services = self.ekiden.cli_json("top", "--once")["Services"]
        busy = next(service for service in services if service["ServiceName"] == "busy")
        return busy["Rates"]["Requests"] and busy["MemoryBytes"] and busy

    def test_top_outlives_the_server(self):
        self.deployed("stays", "--health-path", "/health")
        known, unknown = (rb"stays +RUNNING +\d/\d/\d +" + rate for rate in (rb"0\.0 ", rb"- "))
        with Watched(self.ekiden, "stays") as top:
            until("rates are drawn", lambda: top.draws(known), debug=top.seen)
            self.ekiden.stop()
            until("it says what is wrong", lambda: top.draws(rb"asked again"), debug=top.seen)
            top.forget()
            self.ekiden.start()
            until("counters began anew", lambda: top.draws(unknown), debug=top.seen)
            top.forget()
            until("rates are drawn again", lambda: top.draws(known), debug=top.seen)
            self.assertNotIn(b"asked again", top.seen())
            top.press(b"q")
            self.assertEqual(top.process.wait(10), 0)

    @contextlib.contextmanager
    def asked_steadily(self, service):
        """One request after the other, from another thread."""
        over = threading.Event()

        def ask():
            while not over.wait(0.02):
                self.ekiden.get(service, "/health")

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def test_images(self):
        image = oci.Image([oci.busybox_layer(oci.entry("mark", data=b"cli"))])
        with tempfile.TemporaryDirectory() as directory:
            archive = image.archive(pathlib.Path(directory) / "image.tar")
            self.cli("image", "import", str(archive), "localhost/walk/tiny:1")
            self.assertIn("localhost/walk/tiny:1", self.cli("image", "ls"))
            exported = pathlib.Path(directory) / "again.tar"
            self.cli("image", "export", "localhost/walk/tiny:1", str(exported))
            self.assertGreater(exported.stat().st_size, 0)
            service = self.running("imported", "localhost/walk/tiny:1")
            self.assertEqual(self.ekiden.get(service)[2], b"busybox\n")
            self.fails("image", "rm", "localhost/walk/tiny:1")
            self.ekiden.delete(service["ServiceArn"])
            self.cli("image", "rm", "localhost/walk/tiny:1")
            self.assertNotIn("localhost/walk/tiny:1", self.cli("image", "ls"))
            broken = pathlib.Path(directory) / "broken.tar"
            broken.write_bytes(b"no archive at all")
            self.fails("image", "import", str(broken), "localhost/walk/broken:1")

    def test_doctor_env_and_status(self):
        self.assertIsInstance(self.ekiden.cli_json("doctor"), (list, dict))
        exports = self.cli("env")
        self.assertIn(f"AWS_ENDPOINT_URL=http://127.0.0.1:{self.ekiden.api_port}",
                      exports.replace('"', "").replace("'", ""))
        self.assertIn(self.ekiden.key()["secret_access_key"], exports)
        status = self.ekiden.cli_json("status")
        roles = status.get("roles") or status["supervisor"]["roles"]
        self.assertEqual({r["role"] for r in roles}, {"edge", "control", "agent"})
        self.assertIn("ready", self.cli("status"))

    def test_what_is_not_there_is_named(self):
        for arguments in (("describe", "nobody"), ("logs", "nobody"), ("pause", "nobody"),
                          ("delete", "nobody")):
            self.assertIn("nobody", self.fails(*arguments))
        self.assertIn("localhost/none", self.fails("image", "rm", "localhost/none:1"))
