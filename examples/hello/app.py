"""A web application as ordinary as they come: Python's own HTTP server, one page, one health check."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            self.answer("text/plain", "ok\n")
        elif self.path == "/whoami":
            names = ("EKIDEN_SERVICE", "EKIDEN_REVISION", "EKIDEN_INSTANCE")
            self.answer("application/json", json.dumps({name: os.environ.get(name) for name in names}) + "\n")
        else:
            self.answer("text/plain", os.environ.get("GREETING", "Hello from Ekiden!") + "\n")

    def answer(self, kind, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    port = int(os.environ.get("PORT", "8080"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"hello listens on port {port}", flush=True)
    ThreadingHTTPServer(("", port), Hello).serve_forever()


main()
