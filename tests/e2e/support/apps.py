"""Applications that a test plays itself, on a port of this host: what an instance would be to the edge."""

import concurrent.futures
import contextlib
import hashlib
import http.server
import json
import threading
import time

ADDRESS = "127.0.0.1"
EVENTS = 5
EVENT_SECONDS = 0.2


class Web(http.server.BaseHTTPRequestHandler):
    """HTTP/1.1, whatever the method: tells what it was asked, in the ways that there are."""

    protocol_version = "HTTP/1.1"

    def handle_one_request(self):
        # Every method is the same here.
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if self.parse_request():
            body, trailers = self.body()
            self.server.seen.append((self.command, self.path, self.headers.items(), len(body)))
            name = self.path.split("?")[0].strip("/").replace("-", "_") or "echo"
            getattr(self, f"answer_{name}", self.answer_echo)(body, trailers)
            self.wfile.flush()

    def body(self):
        if "chunked" in self.headers.get("transfer-encoding", ""):
            body, trailers = b"", {}
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while line := self.rfile.readline().strip():
                name, _, value = line.decode().partition(":")
                trailers[name.lower()] = value.strip()
            return body, trailers
        return self.rfile.read(int(self.headers.get("content-length", 0))), {}

    def send(self, status, body, *fields):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_echo(self, body, trailers):
        seen = {"method": self.command, "path": self.path, "bytes": len(body),
                "sha256": hashlib.sha256(body).hexdigest(), "trailers": trailers,
                "headers": {name.lower(): value for name, value in self.headers.items()}}
        self.send(200, json.dumps(seen).encode(), ("Content-Type", "application/json"))

    def answer_page(self, body, trailers):
        self.send(200, self.server.page, ("Content-Type", "text/html"))

    def answer_result(self, body, trailers):
        self.server.results.append(json.loads(body))
        self.send(200, b"{}", ("Content-Type", "application/json"))

    def answer_large(self, body, trailers):
        self.send(200, b"0123456789abcdef" * (1 << 18), ("Content-Type", "application/octet-stream"))

    def answer_trailers(self, body, trailers):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Trailer", "X-Sum")
        self.end_headers()
        self.wfile.write(b"5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n")

    def answer_hints(self, body, trailers):
        self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        self.send(200, b"hello")

    def answer_nothing(self, body, trailers):
        self.send_response(204)
        self.end_headers()

    def answer_until_close(self, body, trailers):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
        self.close_connection = True

    def answer_events(self, body, trailers):
        """Server-sent events, each a while after the one before."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(EVENTS):
            event = f"data: {number}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            time.sleep(EVENT_SECONDS)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


class WebServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, address):
        pass  # a client that left


@contextlib.contextmanager
def web(page=b""):
    server = WebServer((ADDRESS, 0), Web)
    server.seen, server.results, server.page = [], [], page
    server.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def websocket():
    """Echoes every message; `/greeting` speaks first; a message `close` closes."""
    import websockets.sync.server

    def serve(connection):
        if connection.request.path == "/greeting":
            connection.send("hello")
        for message in connection:
            if message == "close":
                connection.close(4000, "as asked")
                return
            connection.send(message)

    with websockets.sync.server.serve(serve, ADDRESS, 0, max_size=None, compression=None) as server:
        server.port = server.socket.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@contextlib.contextmanager
def grpc_echo():
    """The four kinds of calls over plain HTTP/2, with bytes for messages."""
    import grpc

    def unary(request, context):
        context.set_trailing_metadata((("x-sum", str(len(request))),))
        if request == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: \u00fc")
        return request[::-1]

    def client_stream(requests, context):
        return b",".join(requests)

    def server_stream(request, context):
        for number in range(int(request)):
            yield b"%d" % number

    def both(requests, context):
        for request in requests:
            yield request[::-1]

    handler = grpc.method_handlers_generic_handler("test.Echo", {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "Both": grpc.stream_stream_rpc_method_handler(both)})
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((handler,))
    server.port = server.add_insecure_port(f"{ADDRESS}:0")
    server.start()
    try:
        yield server
    finally:
        server.stop(None)
