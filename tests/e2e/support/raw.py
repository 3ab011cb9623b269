"""Requests to the API byte by byte: signed by hand, so that each part can be wrong by itself."""

import contextlib
import datetime
import hashlib
import hmac
import json
import socket

from . import settings

JSON = "application/x-amz-json-1.0"
SIGNED = ("content-type", "host", "x-amz-date", "x-amz-target")


class Request:
    """A request for one operation; change its parts before `sign`, or after to make it wrong."""

    def __init__(self, ekiden, operation="ListServices", body=b"{}", api="AppRunner"):
        key = ekiden.key()
        self.address = ("127.0.0.1", ekiden.api_port)
        self.key_id, self.secret = key["access_key_id"], key["secret_access_key"]
        self.method, self.path, self.query, self.body = "POST", "/", "", body
        self.region, self.service, self.terminator = settings.REGION, "apprunner", "aws4_request"
        self.algorithm, self.signed = "AWS4-HMAC-SHA256", SIGNED
        self.at = datetime.datetime.now(datetime.timezone.utc)
        self.headers = {"host": f"127.0.0.1:{ekiden.api_port}", "content-type": JSON,
                        "x-amz-target": f"{api}.{operation}"}

    def later(self, **difference):
        """Signed at another time."""
        self.at += datetime.timedelta(**difference)
        return self

    @property
    def scope(self):
        return f"{self.at:%Y%m%d}/{self.region}/{self.service}/{self.terminator}"

    def sign(self, canonical_path=None):
        """Adds date and signature. The path that is signed may be another than is sent."""
        date = f"{self.at:%Y%m%dT%H%M%SZ}"
        self.headers["x-amz-date"] = date
        lines = "".join(f"{name}:{' '.join(self.headers.get(name, '').split())}\n"
                        for name in self.signed)
        canonical = "\n".join((self.method, canonical_path or self.path, self.query, lines,
                               ";".join(self.signed), hashlib.sha256(self.body).hexdigest()))
        text = "\n".join((self.algorithm, date, self.scope,
                          hashlib.sha256(canonical.encode()).hexdigest()))
        key = f"AWS4{self.secret}".encode()
        for part in self.scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        self.signature = hmac.digest(key, text.encode(), "sha256").hex()
        return self.authorize()

    def authorize(self, credential=None, headers=None, signature=None):
        """Writes the Authorization header from its parts."""
        credential = credential or f"{self.key_id}/{self.scope}"
        headers = ";".join(self.signed) if headers is None else headers
        self.headers["authorization"] = (
            f"{self.algorithm} Credential={credential}, SignedHeaders={headers}, "
            f"Signature={self.signature if signature is None else signature}")
        return self

    def head(self, *more):
        """The bytes before the body; `more` are lines that are added as they are."""
        target = self.path + (f"?{self.query}" if self.query else "")
        lines = [f"{self.method} {target} HTTP/1.1",
                 *(f"{name}: {value}" for name, value in self.headers.items()), *more]
        if not any(line.lower().startswith(("content-length", "transfer-enc")) for line in lines):
            lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join((*lines, "connection: close", "", "")).encode("latin-1")

    def send(self, *more):
        """Status, headers and answer."""
        return exchange(self.address, self.head(*more) + self.body)


def exchange(address, data, timeout=60):
    """Sends bytes and reads until the other side closes."""
    with connect(address, timeout) as connection:
        with contextlib.suppress(ConnectionError):  # it may have answered and closed already
            connection.sendall(data)
        return answer(connection)


def connect(address, timeout=60):
    return socket.create_connection(address, timeout=timeout)


def answer(connection):
    """Status, headers and body of what comes; `None` for all if nothing does."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(1 << 16):
            received += chunk
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return None, {}, received
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    try:
        return int(first.split()[1]), headers, json.loads(body)
    except ValueError:
        return int(first.split()[1]), headers, body
