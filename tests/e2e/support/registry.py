"""Registries on loopback: Debian's, which works, and one of our own, which does not."""

import http.server
import pathlib
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request

from . import host
from .wait import until


class Registry:
    """Debian's docker-registry with a directory of its own."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="ekiden-registry-")
        self.address = f"127.0.0.1:{host.free_port()}"
        base = pathlib.Path(self.directory.name)
        self.storage = base / "storage"
        config = base / "config.yml"
        config.write_text(
            f"version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n"
            f"    rootdirectory: {self.storage}\n  delete:\n    enabled: true\n"
            f"http:\n  addr: {self.address}\n"
        )
        self.log = open(base / "log", "wb")
        self.process = subprocess.Popen(["docker-registry", "serve", config],
                                        stdout=self.log, stderr=self.log)
        until("answering: the registry", self.answers)

    def answers(self):
        try:
            return urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5).status == 200
        except (urllib.error.URLError, OSError):
            return False

    def push(self, archive, name):
        """Pushes an OCI archive; the reference to deploy."""
        reference = f"{self.address}/{name}"
        host.run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--insecure-policy",
                 f"oci-archive:{archive}", f"docker://{reference}")
        return reference

    def tag(self, reference, name):
        """Gives an image that is there another name."""
        target = f"{self.address}/{name}"
        host.run("skopeo", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false",
                 "--insecure-policy", f"docker://{reference}", f"docker://{target}")
        return target

    def blob(self, digest):
        """The file that holds a blob."""
        digits = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / digits[:2] / digits / "data"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.directory.cleanup()


class BrokenRegistry:
    """Serves one image, and goes wrong at `stage` ("ping", "manifest" or "blob") as `mode` says:

    a status such as "401" or "500", "hang" (half the answer, then nothing), or "close" (half the
    answer, then the end of the connection). With `times`, only so often; then it works.
    """

    def __init__(self, image, stage, mode, times=None):
        self.image, self.stage, self.mode, self.left = image, stage, mode, times
        self.released = threading.Event()
        self.requests = []
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                registry.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def reference(self):
        return f"{self.address}/broken/app:latest"

    def answer(self, request):
        self.requests.append((request.command, request.path))
        stage, kind, body = self.find(request.path)
        breaks = stage == self.stage and (self.left is None or self.left > 0)
        if breaks and self.left is not None:
            self.left -= 1
        if breaks and self.mode.isdigit():
            return self.send(request, int(self.mode), "application/json", b'{"errors":[]}')
        if body is None:
            return self.send(request, 404, "application/json", b'{"errors":[]}')
        if breaks and request.command == "GET":
            return self.half(request, kind, body)
        self.send(request, 200, kind, body)

    def find(self, path):
        if path in ("/v2/", "/v2"):
            return "ping", "application/json", b"{}"
        name = path.rpartition("/")[2]
        if "/manifests/" in path:
            name = self.image.manifest["digest"] if name == self.image.tag else name
            return "manifest", self.image.manifest["mediaType"], self.image.blobs.get(name)
        return "blob", "application/octet-stream", self.image.blobs.get(name)

    def send(self, request, status, kind, body):
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        if status == 401:
            request.send_header("WWW-Authenticate", 'Basic realm="broken"')
        if status == 429:
            request.send_header("Retry-After", "1")
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)

    def half(self, request, kind, body):
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) // 2])
        request.wfile.flush()
        if self.mode == "hang":
            self.released.wait()
        request.close_connection = True
