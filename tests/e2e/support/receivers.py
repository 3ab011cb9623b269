"""Receivers of log lines, as drains find them: each has the texts of the lines that it took."""

import collections
import contextlib
import gzip
import http.server
import json
import pathlib
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import urllib.parse
import urllib.request

import boto3

from . import host, settings
from .moto import Moto
from .wait import until

BUCKET = "logs"
TOKEN = "Bearer only-for-the-receiver"


class Texts:
    """What arrived, and how often."""

    def counts(self, mark):
        """How often each line with the mark came, by its number."""
        found = collections.Counter()
        for text in self.texts():
            word, _, number = text.partition(" ")
            if word == mark and number.isdigit():
                found[int(number)] += 1
        return found

    def close(self):
        pass


class Kept(Texts):
    """Texts in the memory of a server that runs in a thread, and outlive it."""

    def __init__(self, handler):
        self.kept, self.lock = [], threading.Lock()
        self.handler, self.port = handler, 0
        self.start()

    def start(self):
        self.server = Threads(("127.0.0.1", self.port), self.handler)
        self.server.receiver = self
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        """As if it were killed: what it is sent at that moment is not answered."""
        self.close()
        self.server.cut()

    def keep(self, texts):
        with self.lock:
            self.kept.extend(texts)

    def texts(self):
        with self.lock:
            return list(self.kept)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Posted(http.server.BaseHTTPRequestHandler):
    """What both protocols over HTTP share."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.headers.get("authorization") != TOKEN:
            return self.answer(401, b"")
        return self.answer(200, self.take(body))

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", self.headers["content-type"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class PostedJson(Posted):
    def take(self, body):
        self.server.receiver.keep([line["message"] for line in json.loads(body)])
        return b""


class PostedOtlp(Posted):
    def take(self, body):
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as service
        assert self.path == "/v1/logs", self.path
        request = service.ExportLogsServiceRequest.FromString(body)
        self.server.receiver.keep([
            record.body.string_value
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ])
        return service.ExportLogsServiceResponse().SerializeToString()


class Forwarded(socketserver.BaseRequestHandler):
    """The Forward protocol: chunks that are acknowledged when they are kept."""

    def handle(self):
        import msgpack
        stream = msgpack.Unpacker(raw=False, strict_map_key=False, timestamp=0)
        while read := self.request.recv(65536):
            stream.feed(read)
            for _tag, entries, option in stream:
                if isinstance(entries, bytes):
                    packed = msgpack.Unpacker(raw=False)
                    packed.feed(entries)
                    entries = list(packed)
                self.server.receiver.keep([record["message"] for _time, record in entries])
                if "chunk" in option:
                    self.request.sendall(msgpack.packb({"ack": option["chunk"]}))


class Threads(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.connections = set()

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def cut(self):
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        """A connection that is cut is no news."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def posted_json():
    return Kept(PostedJson)


def posted_otlp():
    return Kept(PostedOtlp)


def forwarded():
    return Kept(Forwarded)


class Rsyslog(Texts):
    """rsyslogd that takes messages over TLS, with an authority of its own."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.port = host.free_port()
        self.process = None
        self.make_certificate()
        (self.directory / "rsyslog.conf").write_text(f'''
global(workDirectory="{self.directory}" maxMessageSize="64k" defaultNetstreamDriver="gtls"
       defaultNetstreamDriverCAFile="{self.directory}/ca.pem"
       defaultNetstreamDriverCertFile="{self.directory}/server.pem"
       defaultNetstreamDriverKeyFile="{self.directory}/server.key")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" port="{self.port}" address="127.0.0.1")
template(name="plain" type="string" string="%msg%\\n")
action(type="omfile" file="{self.directory}/lines.log" template="plain")
''')
        self.start()

    def make_certificate(self):
        def openssl(*arguments):
            host.run("openssl", *arguments, cwd=self.directory)

        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
                "-subj", "/CN=receivers of a test", "-addext", "keyUsage=critical,keyCertSign")
        openssl("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
        (self.directory / "server.ext").write_text("subjectAltName=DNS:localhost\n")
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
                "-extfile", "server.ext", "-out", "server.pem")

    def start(self):
        with open(self.directory / "rsyslogd.log", "ab") as log:
            self.process = subprocess.Popen(
                ["rsyslogd", "-n", "-f", self.directory / "rsyslog.conf", "-i", self.directory / "pid"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("listening: rsyslogd", self.listens, 30,
              lambda: (self.directory / "rsyslogd.log").read_text())

    def listens(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 5).close()
            return True
        return False

    def stop(self):
        """As a machine is shut down: what it took, it writes."""
        self.process.terminate()
        self.process.wait()

    def texts(self):
        path = self.directory / "lines.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return [line.lstrip("\ufeff ") for line in text.splitlines()]

    def close(self):
        self.process.kill()
        self.process.wait()


class Bucket(Texts):
    """Object storage by moto."""

    def __init__(self, directory):
        self.moto = Moto(pathlib.Path(directory) / "moto.log")
        self.client = boto3.client(
            "s3", region_name=settings.REGION, endpoint_url=self.moto.endpoint,
            aws_access_key_id="key", aws_secret_access_key="secret")
        self.client.create_bucket(Bucket=BUCKET)

    def stop(self):
        """It hangs: what it has would not outlive it."""
        host.kill(self.moto.process.pid, signal.SIGSTOP)

    def start(self):
        host.kill(self.moto.process.pid, signal.SIGCONT)

    def names(self):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def texts(self):
        texts = []
        for name in self.names():
            body = self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
            lines = gzip.decompress(body).splitlines()
            texts.extend(json.loads(line)["message"] for line in lines)
        return texts

    def close(self):
        self.moto.close()


class Prometheus:
    """Prometheus that scrapes an Ekiden every second."""

    def __init__(self, directory, ekiden):
        self.directory = pathlib.Path(directory)
        self.port = host.free_port()
        key = ekiden.key()
        (self.directory / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{
                "job_name": "ekiden",
                "basic_auth": {"username": key["access_key_id"], "password": key["secret_access_key"]},
                "static_configs": [{"targets": [f"127.0.0.1:{ekiden.api_port}"]}],
            }],
        }))
        self.process = None
        self.start()

    def start(self):
        with open(self.directory / "prometheus.log", "ab") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={self.directory}/prometheus.yml",
                 f"--storage.tsdb.path={self.directory}/data", f"--web.listen-address=127.0.0.1:{self.port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("Prometheus answers", lambda: self.ask("up") is not None, 60,
              lambda: (self.directory / "prometheus.log").read_text()[-3000:])

    def stop(self):
        self.process.kill()
        self.process.wait()

    def ask(self, query):
        """The value of an expression with one result; None without one."""
        where = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(where, timeout=10) as answer:
                results = json.load(answer)["data"]["result"]
        except OSError:
            return None
        return float(results[0]["value"][1]) if results else 0.0

    def close(self):
        self.stop()
