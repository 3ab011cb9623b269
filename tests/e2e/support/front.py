"""The edge by itself, and its peers, in front of an application that a test plays: no containers, no
control, so that a suite can send what it likes by the thousand."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

from . import host, settings
from .wait import until

ADDRESS = "127.0.0.1"


def free_port():
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return probe.getsockname()[1]


class Front:
    """A proxy that listens on `port`; a context."""

    name = None

    def __init__(self):
        self.port = free_port()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"ekiden-front-{self.name}-"))
        self.log = open(self.directory / "output", "w+")

    def __enter__(self):
        self.process = self.start()
        until(f"{self.name} listens", self.listens, 20, self.tail)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def run(self, *argv):
        return subprocess.Popen([str(word) for word in argv], stdout=self.log, stderr=self.log)

    def listens(self):
        assert self.process.poll() is None, self.tail()
        with contextlib.suppress(OSError), socket.create_connection((ADDRESS, self.port), 1):
            return True
        return False

    def tail(self):
        self.log.flush()
        return (self.directory / "output").read_text(errors="replace")[-3000:]

    def alive(self):
        return self.process.poll() is None

    def pids(self):
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def pss_bytes(self):
        return sum(map(host.pss_bytes, self.pids()))


class EdgeAlone(Front):
    """Ekiden's edge with one worker, and a table and a certificate that stand still.

    `hosts` leads from host names to upstream ports; `ingress` has a host's settings where they are not
    the usual ones, as control would send them."""

    name = "ekiden"

    def __init__(self, hosts, ingress=None, concurrency=1000, **bounds):
        super().__init__()
        self.hosts, self.ingress = hosts, ingress or {}
        self.concurrency, self.bounds = concurrency, bounds
        self.port_tls = free_port()
        self.chain, self.key = self.directory / "chain.pem", self.directory / "key.pem"

    def start(self):
        self.write_routes()
        self.write_certificate()
        bounds = [f"{name}={value}" for name, value in self.bounds.items()]
        return self.run(settings.EDGE, self.directory, 1, f"{ADDRESS}:{self.port}",
                        f"{ADDRESS}:{self.port_tls}", *bounds)

    def write_routes(self):
        routes = [{
            "service": f"{number:032x}", "service_name": f"service-{number}", "hosts": [name],
            "state": "serving", "concurrency_per_instance": self.concurrency,
            "ingress": self.ingress.get(name, {}),
            "upstreams": [{"instance": f"{number:032x}", "revision": 1,
                           "address": f"{ADDRESS}:{port}"}]}
            for number, (name, port) in enumerate(self.hosts.items(), 1)]
        table = {"version": 1, "generation": 1, "routes": routes}
        (self.directory / "routes.json").write_text(json.dumps(table))

    def write_certificate(self):
        names = ",".join(f"DNS:{name}" for name in self.hosts)
        host.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                 "-nodes", "-days", "2", "-subj", "/CN=ekiden", "-addext", f"subjectAltName={names}",
                 "-keyout", self.key, "-out", self.chain)
        one = {"id": "1" * 32, "names": list(self.hosts), "chain": self.chain.read_text(),
               "key": self.key.read_text()}
        saved = {"version": 1, "default": one["id"], "on_demand": [], "certificates": [one]}
        (self.directory / "certificates.json").write_text(json.dumps(saved))

    def access_log(self):
        """Its lines so far; they are written behind the answers."""
        with contextlib.suppress(FileNotFoundError):
            text = (self.directory / "access.log").read_text()
            return [json.loads(line) for line in text.splitlines()]
        return []


NGINX = """
worker_processes 1;
daemon off;
pid @DIRECTORY@/pid;
error_log @DIRECTORY@/error.log crit;
events { worker_connections 4096; }
http {
    access_log off;
    @TEMPORARY@
    upstream application { server @UPSTREAM@; keepalive 64; }
    server {
        listen @LISTEN@ backlog=4096;
        listen @LISTEN_H2@ http2 backlog=4096;
        server_name app.test;
        location / {
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_next_upstream off;
        }
    }
}
"""


class Nginx(Front):
    """As Debian has it, with kept connections to the application."""

    name = "nginx"

    def __init__(self, upstream):
        super().__init__()
        self.upstream, self.port_h2 = upstream, free_port()

    def start(self):
        temporary = "\n".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in
                              ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        fill = {"DIRECTORY": self.directory, "TEMPORARY": temporary,
                "UPSTREAM": f"{ADDRESS}:{self.upstream}", "LISTEN": f"{ADDRESS}:{self.port}",
                "LISTEN_H2": f"{ADDRESS}:{self.port_h2}"}
        path = self.directory / "nginx.conf"
        path.write_text(filled(NGINX, fill))
        os.chmod(self.directory, 0o755)  # its worker is another user
        return self.run("nginx", "-p", self.directory, "-e", self.directory / "error.log", "-c", path)


HAPROXY = """
global
    nbthread 1
    maxconn 4000
defaults
    mode http
    option http-keep-alive
    http-reuse always
    retries 0
    timeout connect 3s
    timeout client 30s
    timeout server 30s
    timeout http-request 10s
frontend edge
    bind @LISTEN@ backlog 4096
    bind @LISTEN_H2@ proto h2 backlog 4096
    http-request set-header X-Forwarded-For %[src]
    default_backend application
backend application
    server application @UPSTREAM@
"""


class HAProxy(Front):
    """As Debian has it."""

    name = "HAProxy"

    def __init__(self, upstream):
        super().__init__()
        self.upstream, self.port_h2 = upstream, free_port()

    def start(self):
        fill = {"UPSTREAM": f"{ADDRESS}:{self.upstream}", "LISTEN": f"{ADDRESS}:{self.port}",
                "LISTEN_H2": f"{ADDRESS}:{self.port_h2}"}
        path = self.directory / "haproxy.cfg"
        path.write_text(filled(HAPROXY, fill))
        return self.run("haproxy", "-db", "-q", "-f", path)


def filled(text, values):
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text
