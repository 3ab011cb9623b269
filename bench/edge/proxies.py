"""The proxies under measurement: each one process family, pinned to one core, behind it one upstream."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
ADDRESS = "127.0.0.1"
HOST = "app.bench"
# A name that resolves, for clients that say in TLS what they connect to.
TLS_HOST = "localhost"
CERTIFICATE_ID = "1" * 32
PROXY_CORE, LOAD_CORE = "0", "1"
START_SECONDS_MAX = 20


def free_port():
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return probe.getsockname()[1]


def pinned(core, *argv, **options):
    return subprocess.Popen(["taskset", "--cpu-list", core, *map(str, argv)], **options)


def wait_for(port, process, what):
    """Until something accepts; a program that ends instead is told of."""
    end = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"error: {what} ended with {process.returncode} before it listened")
        with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"error: {what} does not listen on port {port} after {START_SECONDS_MAX} s")


class Upstream:
    """The application: `EKIDEN_UPSTREAM_BIN` on the load's core."""

    def __init__(self):
        self.port = free_port()
        self.process = pinned(LOAD_CORE, os.environ["EKIDEN_UPSTREAM_BIN"],
                              f"{ADDRESS}:{self.port}")
        wait_for(self.port, self.process, "the upstream")

    def close(self):
        stop(self.process)


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Proxy:
    """What every proxy has: ports, a directory, a process whose CPU and memory are counted."""

    name = None

    def __init__(self, directory, upstream, certificate):
        self.directory = pathlib.Path(directory) / f"{self.name}-{free_port()}"
        self.directory.mkdir()
        self.upstream, self.certificate = upstream, certificate
        self.port, self.tls_port = free_port(), free_port()
        self.process = self.start()
        wait_for(self.port, self.process, self.name)

    def filled(self, template):
        """A configuration with its @NAMES@ filled in; where it is."""
        text = (HERE / template).read_text()
        for name, value in {
                "ADDRESS": ADDRESS, "HTTP": self.port, "HTTPS": self.tls_port, "HOST": HOST,
                "DIRECTORY": self.directory, "UPSTREAM": f"{ADDRESS}:{self.upstream.port}",
                "CERTIFICATE": self.certificate.chain, "KEY": self.certificate.key,
                "BUNDLE": self.certificate.bundle}.items():
            text = text.replace(f"@{name}@", str(value))
        path = self.directory / template
        path.write_text(text)
        return path

    def pids(self):
        """The process and its children."""
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def cpu_seconds(self):
        """User and system time, summed over the threads of all processes to the nanosecond."""
        total = 0
        for pid in self.pids():
            for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0])
        return total / 1e9

    def pss_bytes(self):
        total = 0
        for pid in self.pids():
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def empty_log(self):
        """So that no round writes into a file that the others have made long."""
        os.truncate(self.directory / "access.log", 0)

    def close(self):
        stop(self.process)
        shutil.rmtree(self.directory, ignore_errors=True)


class Ekiden(Proxy):
    """The edge alone, one worker: `EKIDEN_EDGE_BIN`."""

    name = "Ekiden"

    def __init__(self, directory, upstream, certificate, routes=1, concurrency=1000):
        self.routes, self.concurrency = routes, concurrency
        super().__init__(directory, upstream, certificate)

    def hosts(self):
        return [HOST, *(f"app-{number}.bench" for number in range(1, self.routes))]

    def start(self):
        table = {"version": 1, "generation": 1, "routes": [
            {"service": f"{number + 1:032x}", "service_name": f"bench-{number}", "hosts": [host],
             "state": "serving", "concurrency_per_instance": self.concurrency,
             "upstreams": [{"instance": f"{number + 1:032x}", "revision": 1,
                            "address": f"{ADDRESS}:{self.upstream.port}"}]}
            for number, host in enumerate(self.hosts())]}
        (self.directory / "routes.json").write_text(json.dumps(table))
        certificates = {"version": 1, "default": CERTIFICATE_ID, "on_demand": [], "certificates": [
            {"id": CERTIFICATE_ID, "names": [HOST, TLS_HOST],
             "chain": self.certificate.chain.read_text(),
             "key": self.certificate.key.read_text()}]}
        (self.directory / "certificates.json").write_text(json.dumps(certificates))
        return pinned(PROXY_CORE, os.environ["EKIDEN_EDGE_BIN"], self.directory, 1,
                      f"{ADDRESS}:{self.port}", f"{ADDRESS}:{self.tls_port}",
                      "connections_per_worker=12000", "queue_requests=1000",
                      preexec_fn=more_descriptors)


class Nginx(Proxy):
    name = "nginx"

    def start(self):
        return pinned(PROXY_CORE, "nginx", "-e", self.directory / "error.log", "-p",
                      self.directory, "-c", self.filled("nginx.conf"), preexec_fn=more_descriptors)


class HAProxy(Proxy):
    name = "HAProxy"

    def start(self):
        with (open(self.directory / "access.log", "ab") as log,
              open(self.directory / "error.log", "ab") as errors):
            return pinned(PROXY_CORE, "haproxy", "-db", "-f", self.filled("haproxy.cfg"),
                          stdout=log, stderr=errors, preexec_fn=more_descriptors)


def more_descriptors():
    import resource
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if most == resource.RLIM_INFINITY else min(most, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class Certificate:
    """One P-256 certificate for all."""

    def __init__(self, directory):
        directory = pathlib.Path(directory)
        self.chain, self.key = directory / "chain.pem", directory / "key.pem"
        self.bundle = directory / "bundle.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "30", "-subj", f"/CN={HOST}", "-addext",
             f"subjectAltName=DNS:{HOST},DNS:{TLS_HOST}", "-keyout", self.key, "-out", self.chain],
            check=True, stderr=subprocess.DEVNULL)
        self.bundle.write_bytes(self.chain.read_bytes() + self.key.read_bytes())
