"""Real clients at the front door: curl, nghttp, h2load, websockets, h2, grpcio, and a browser.

The edge runs by itself; the applications behind it are played by the test.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

from support import apps, host
from support.front import ADDRESS, EdgeAlone
from support.wait import until

PROGRAMS = ("curl", "nghttp", "h2load", "openssl")
WEB, SOCKET, GRPC = "web.test", "socket.test", "grpc.test"
VERSIONS = {"1.0": "--http1.0", "1.1": "--http1.1", "2 by prior knowledge": "--http2-prior-knowledge"}
TLS_VERSIONS = {"1.1": "--http1.1", "2": "--http2"}
PAGE = pathlib.Path(__file__).parent / "clients/browser/page.html"


def every_way(test):
    """Tries every version of HTTP, plain and through TLS."""
    @functools.wraps(test)
    def tried(self):
        for tls, versions in ((False, VERSIONS), (True, TLS_VERSIONS)):
            for version, option in versions.items():
                with self.subTest(version=version, tls=tls):
                    test(self, version, option, tls)
    return tried


class EdgeClients(unittest.TestCase):
    """One edge before three applications."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if lacking := host.missing(*PROGRAMS):
            raise unittest.SkipTest(f"not installed: {', '.join(lacking)}")
        cls.web = cls.enterClassContext(apps.web(PAGE.read_bytes()))
        cls.sockets = cls.enterClassContext(apps.websocket())
        cls.grpc = cls.enterClassContext(apps.grpc_echo())
        ports = {WEB: cls.web.port, SOCKET: cls.sockets.port, GRPC: cls.grpc.port}
        cls.edge = cls.enterClassContext(EdgeAlone(ports, {GRPC: {"app_protocol": "h2c"}}))

    # ---- curl

    def curl(self, path, *options, tls=False, name=WEB, stdin=None):
        """What curl prints, the answer's head and its trailers included."""
        port = self.edge.port_tls if tls else self.edge.port
        more = ("--cacert", self.edge.chain) if tls else ()
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--max-time", "30", "--include",
             "--connect-to", f"{name}::{ADDRESS}:{port}", *more, *options,
             f"http{'s' * tls}://{name}{path}"], capture_output=True, stdin=stdin)
        self.assertEqual(done.returncode, 0, (done.stderr, done.stdout[:500]))
        return done.stdout

    def echoed(self, *arguments, **more):
        head, _, body = self.curl(*arguments, **more).rpartition(b"\r\n\r\n")
        self.assertRegex(head, rb"(?:^|\r\n\r\n)HTTP/[\d.]+ 200")
        return json.loads(body)

    @every_way
    def test_curl_in_every_version(self, version, option, tls):
        seen = self.echoed("/echo?a=b", option, tls=tls)
        self.assertEqual((seen["method"], seen["path"]), ("GET", "/echo?a=b"))
        headers = seen["headers"]
        self.assertEqual(headers["host"], WEB)
        self.assertEqual(headers["x-forwarded-for"], ADDRESS)
        self.assertEqual(headers["x-forwarded-proto"], "https" if tls else "http")
        self.assertEqual(headers["x-forwarded-host"], WEB)
        self.assertRegex(headers["x-request-id"], "^[0-9a-f]{32}$")
        self.assertFalse({"connection", "upgrade", "http2-settings"} & set(headers), headers)
        answer = self.curl("/echo", option, tls=tls)
        want = b"HTTP/2 200" if "2" in version else b"HTTP/1.1 200"
        self.assertTrue(answer.startswith(want), answer[:200])

    @every_way
    def test_curl_uploads(self, version, option, tls):
        body = os.urandom(3 << 20)
        # HTTP/1.0 has no body of unknown length.
        streamed = ("--request", "POST", "--upload-file", "-", "--header", "Expect:")
        with tempfile.NamedTemporaryFile() as file:
            file.write(body)
            file.flush()
            for options in [("--upload-file", file.name)] + [streamed] * (version != "1.0"):
                with open(file.name, "rb") as source:
                    seen = self.echoed("/echo", option, *options, tls=tls, stdin=source)
                self.assertEqual(seen["sha256"], hashlib.sha256(body).hexdigest())

    @every_way
    def test_curl_head_and_answers_without_body(self, version, option, tls):
        answer = self.curl("/echo", option, "--head", tls=tls)
        self.assertRegex(answer.lower(), rb"content-length: \d{2,}")
        self.assertTrue(answer.endswith(b"\r\n\r\n"), answer)
        self.assertIn(b" 204", self.curl("/nothing", option, tls=tls).splitlines()[0])

    @every_way
    def test_curl_continue(self, version, option, tls):
        answer = self.curl("/echo", option, "--header", "Expect: 100-continue", "--data", "a" * 2000,
                           "--expect100-timeout", "1" if version == "1.0" else "20", tls=tls)
        # HTTP/1.0 does not know of it, and sends after a while.
        self.assertEqual(b" 100" in answer.splitlines()[0], version != "1.0")
        self.assertIn(b'"bytes": 2000', answer)

    @every_way
    def test_curl_early_hints(self, version, option, tls):
        answer = self.curl("/hints", option, tls=tls)
        # There are no informational responses in HTTP/1.0.
        self.assertEqual(b" 103" in answer, version != "1.0", answer)
        self.assertTrue(answer.endswith(b"hello"), answer)

    @every_way
    def test_curl_trailers(self, version, option, tls):
        answer = self.curl("/trailers", option, tls=tls)
        self.assertIn(b"hello", answer)
        self.assertEqual(b"x-sum: 42" in answer.lower(), version != "1.0", answer)

    @every_way
    def test_curl_answer_until_close(self, version, option, tls):
        self.assertTrue(self.curl("/until-close", option, tls=tls).endswith(b"hello"))

    @every_way
    def test_curl_large_answers(self, version, option, tls):
        _, _, body = self.curl("/large", option, tls=tls).partition(b"\r\n\r\n")
        self.assertEqual(hashlib.sha256(body).hexdigest(),
                         hashlib.sha256(b"0123456789abcdef" * (1 << 18)).hexdigest())

    def test_curl_versions_of_tls(self):
        for version in ("1.2", "1.3"):
            self.echoed("/echo", f"--tlsv{version}", "--tls-max", version, tls=True)
        done = subprocess.run(["curl", "--silent", "--tls-max", "1.1", "--insecure", "--connect-to",
                               f"{WEB}::{ADDRESS}:{self.edge.port_tls}", f"https://{WEB}/"])
        self.assertEqual(done.returncode, 35, "TLS 1.1 is not spoken")

    @every_way
    def test_events_are_not_held_back(self, version, option, tls):
        """Each arrives before the application has sent the next."""
        port = self.edge.port_tls if tls else self.edge.port
        process = subprocess.Popen(
            ["curl", "--silent", "--no-buffer", option, "--cacert", self.edge.chain,
             "--connect-to", f"{WEB}::{ADDRESS}:{port}", f"http{'s' * tls}://{WEB}/events"],
            stdout=subprocess.PIPE)
        came = [time.monotonic() for line in process.stdout if line.startswith(b"data")]
        self.assertEqual(process.wait(), 0)
        self.assertEqual(len(came), apps.EVENTS)
        # All at once would be as good as no time between the first and the last.
        self.assertGreater(came[-1] - came[0], apps.EVENT_SECONDS * (apps.EVENTS - 1) / 2)

    # ---- nghttp2

    def test_nghttp_and_h2load(self):
        name = f"https://{ADDRESS}:{self.edge.port_tls}"
        output = host.run("nghttp", "--verbose", "--header", f":authority: {WEB}",
                          "--no-verify-peer", "--data", __file__, f"{name}/echo")
        self.assertIn(":status: 200", output)
        self.assertIn(hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest(), output)
        for more in ((name, "--header", f":authority: {WEB}"),
                     (f"http://{ADDRESS}:{self.edge.port}", "--header", f":authority: {WEB}")):
            output = host.run("h2load", "--requests", "500", "--clients", "5",
                              "--max-concurrent-streams", "32", *more)
            self.assertIn("500 succeeded, 0 failed, 0 errored", output)
            self.assertIn("status codes: 500 2xx", output)

    def test_h2_of_python(self):
        """A client whose library checks what it gets, with several streams at once."""
        import h2.connection
        import h2.events
        with socket.create_connection((ADDRESS, self.edge.port), 20) as stream:
            connection = h2.connection.H2Connection()
            connection.initiate_connection()
            streams = [1, 3, 5, 7]
            for number in streams:
                connection.send_headers(number, [
                    (":method", "POST"), (":scheme", "http"), (":authority", WEB),
                    (":path", f"/echo?{number}")])
                connection.send_data(number, b"x" * number, end_stream=True)
            stream.sendall(connection.data_to_send())
            bodies, ended = dict.fromkeys(streams, b""), set()
            while ended != set(streams):
                for event in connection.receive_data(stream.recv(1 << 16)):
                    if isinstance(event, h2.events.ResponseReceived):
                        self.assertEqual(dict(event.headers)[b":status"], b"200")
                    if isinstance(event, h2.events.DataReceived):
                        bodies[event.stream_id] += event.data
                        connection.acknowledge_received_data(
                            event.flow_controlled_length, event.stream_id)
                    if isinstance(event, h2.events.StreamEnded):
                        ended.add(event.stream_id)
                stream.sendall(connection.data_to_send())
        seen = {number: json.loads(body) for number, body in bodies.items()}
        self.assertEqual({number: (one["path"], one["bytes"]) for number, one in seen.items()},
                         {number: (f"/echo?{number}", number) for number in streams})

    # ---- WebSocket

    @contextlib.contextmanager
    def websocket(self, path="/", tls=True):
        import websockets.sync.client
        port, context = self.edge.port, None
        if tls:
            port, context = self.edge.port_tls, ssl.create_default_context(cafile=self.edge.chain)
        with (socket.create_connection((ADDRESS, port), 20) as stream,
              websockets.sync.client.connect(f"ws{'s' * tls}://{SOCKET}{path}", sock=stream,
                                             ssl=context, max_size=None, compression=None)
              as connection):
            yield connection

    def test_websockets(self):
        for tls in (False, True):
            with self.subTest(tls=tls), self.websocket("/greeting", tls) as connection:
                self.assertEqual(connection.recv(10), "hello")
                for message in ("text \u00fc", b"\0\xff" * 1000, "x" * 200_000, os.urandom(2 << 20)):
                    connection.send(message)
                    self.assertEqual(connection.recv(20), message)
                self.assertTrue(connection.ping().wait(10))
                connection.send("close")
                import websockets.exceptions
                with self.assertRaises(websockets.exceptions.ConnectionClosed) as closed:
                    connection.recv(10)
                self.assertEqual(closed.exception.rcvd.code, 4000)

    def test_websocket_by_extended_connect(self):
        """RFC 8441, by h2: the handshake is a CONNECT with a :protocol."""
        from support.http2 import Connection
        with Connection(self.edge.port_tls, tls=self.edge.chain, name=SOCKET) as connection:
            self.assertEqual(connection.settings().get(8), 1, "ENABLE_CONNECT_PROTOCOL")
            stream = connection.open([
                (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                (":path", "/greeting"), (":authority", SOCKET), ("sec-websocket-version", "13")])
            self.assertEqual(dict(connection.head(stream))[b":status"], b"200")
            self.assertEqual(connection.data(stream, 7), b"\x81\x05hello")
            # Masked, as clients do; the mask is zero.
            connection.send(stream, b"\x81\x83\0\0\0\0abc")
            self.assertEqual(connection.data(stream, 5), b"\x81\x03abc")
            connection.send(stream, b"\x88\x82\0\0\0\0\x03\xe8", end=True)
            self.assertEqual(connection.data(stream, 4), b"\x88\x02\x03\xe8")

    # ---- gRPC

    @contextlib.contextmanager
    def channel(self, tls):
        import grpc
        options = [("grpc.default_authority", GRPC), ("grpc.ssl_target_name_override", GRPC)]
        if tls:
            credentials = grpc.ssl_channel_credentials(self.edge.chain.read_bytes())
            made = grpc.secure_channel(f"{ADDRESS}:{self.edge.port_tls}", credentials, options)
        else:
            made = grpc.insecure_channel(f"{ADDRESS}:{self.edge.port}", options)
        with made as channel:
            yield channel

    def test_grpc(self):
        import grpc
        for tls in (False, True):
            with self.subTest(tls=tls), self.channel(tls) as channel:
                unary = channel.unary_unary("/test.Echo/Unary")
                answer, call = unary.with_call(b"hello", timeout=20)
                self.assertEqual(answer, b"olleh")
                self.assertIn(("x-sum", "5"), [tuple(item) for item in call.trailing_metadata()])
                large = os.urandom(1 << 20)
                self.assertEqual(unary(large, timeout=20), large[::-1])
                with self.assertRaises(grpc.RpcError) as failed:
                    unary(b"fail", timeout=20)
                self.assertEqual(failed.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)
                self.assertEqual(failed.exception.details(), "as asked: \u00fc")
                joined = channel.stream_unary("/test.Echo/ClientStream")
                self.assertEqual(joined(iter([b"a", b"b", b"c"]), timeout=20), b"a,b,c")
                counted = channel.unary_stream("/test.Echo/ServerStream")
                self.assertEqual(list(counted(b"1000", timeout=20)), [b"%d" % n for n in range(1000)])

    def test_grpc_in_both_directions_at_once(self):
        """Each message is answered before the next is sent: nothing waits for a buffer to fill."""
        import queue
        for tls in (False, True):
            with self.subTest(tls=tls), self.channel(tls) as channel:
                messages = queue.Queue()
                answers = channel.stream_stream("/test.Echo/Both")(
                    iter(messages.get, None), timeout=30)
                for number in range(50):
                    messages.put(b"%03d" % number)
                    self.assertEqual(next(answers), (b"%03d" % number)[::-1])
                messages.put(None)
                self.assertEqual(list(answers), [])

    # ---- a browser

    def test_chromium(self):
        """A page over HTTPS asks by fetch, WebSocket and server-sent events, and tells what it saw."""
        if host.missing("chromium"):
            self.skipTest("not installed: chromium")
        self.web.results.clear()
        with tempfile.TemporaryDirectory(prefix="ekiden-chromium-") as profile:
            process = subprocess.Popen(
                ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--no-first-run", "--disable-background-networking", "--ignore-certificate-errors",
                 f"--user-data-dir={profile}", "--remote-debugging-port=0",
                 f"--host-resolver-rules=MAP *:443 {ADDRESS}:{self.edge.port_tls}",
                 f"https://{WEB}/page"],
                stdout=subprocess.DEVNULL, stderr=open(f"{profile}.log", "w"))
            try:
                until("the page tells", lambda: self.web.results, 60,
                      lambda: pathlib.Path(f"{profile}.log").read_text()[-3000:])
            finally:
                process.kill()
                process.wait()
                pathlib.Path(f"{profile}.log").unlink()
                # Its children go after it; until then they write into the profile.
                until("the profile is free", lambda: removed(profile), 20)
                os.makedirs(profile)
        result = self.web.results[0]
        self.assertEqual(result.get("errors"), [], result)
        self.assertEqual(result["page"], "h2")
        self.assertEqual(result["fetch"]["method"], "POST")
        self.assertEqual(result["events"], [str(number) for number in range(apps.EVENTS)])
        self.assertEqual(result["socket"], ["hello", "from the page"])


def removed(path):
    shutil.rmtree(path, ignore_errors=True)
    return not os.path.exists(path)


__all__ = ["EdgeClients"]
