"""A client of HTTP/2 that does what it is told: frames by hand, header fields unchecked."""

import contextlib
import socket
import ssl
import struct

from .front import ADDRESS

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def setting(*pairs):
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


class Closed(Exception):
    """The other side has ended the connection."""


class Connection:
    """One connection; a context. `frames` has everything that came, as (kind, flags, stream, payload)."""

    def __init__(self, port, tls=None, name=None, settings=(), timeout=20, source=None):
        import hpack
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.socket = socket.create_connection((ADDRESS, port), timeout, source and (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context(cafile=tls)
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname=name)
            assert self.socket.selected_alpn_protocol() == "h2"
        self.received, self.frames, self.heads = b"", [], {}
        self.bodies, self.ended, self.reset = {}, set(), {}
        self.next_stream, self.goaway, self.peer_settings = 1, None, None
        self.write(PREFACE + setting(*settings))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def write(self, data):
        try:
            self.socket.sendall(data)
        except (ConnectionError, ssl.SSLError) as error:
            raise Closed(str(error)) from error

    def read_frame(self):
        """Takes one frame in."""
        while len(self.received) < 9 or len(self.received) < 9 + self.length():
            try:
                chunk = self.socket.recv(1 << 16)
            except (ConnectionError, ssl.SSLError) as error:
                if isinstance(error, TimeoutError):
                    raise
                raise Closed(str(error)) from error
            if not chunk:
                raise Closed("closed")
            self.received += chunk
        length = self.length()
        kind, flags = self.received[3], self.received[4]
        stream = struct.unpack(">I", self.received[5:9])[0] & 0x7fffffff
        payload, self.received = self.received[9:9 + length], self.received[9 + length:]
        self.frames.append((kind, flags, stream, payload))
        self.take(kind, flags, stream, payload)

    def length(self):
        return int.from_bytes(self.received[:3], "big")

    def take(self, kind, flags, stream, payload):
        if kind == SETTINGS and not flags & ACK:
            self.peer_settings = dict(struct.iter_unpack(">HI", payload))
            self.write(frame(SETTINGS, ACK))
        elif kind == HEADERS:
            self.heads.setdefault(stream, []).append(
                [(bytes(name), bytes(value)) for name, value in
                 self.decoder.decode(payload, raw=True)])
        elif kind == DATA:
            self.bodies[stream] = self.bodies.get(stream, b"") + payload
            if payload and self.credit:
                update = struct.pack(">I", len(payload))
                with contextlib.suppress(Closed):
                    self.write(frame(WINDOW_UPDATE, payload=update)
                               + frame(WINDOW_UPDATE, 0, stream, update))
        elif kind == RST_STREAM:
            self.reset[stream] = struct.unpack(">I", payload)[0]
        elif kind == GOAWAY:
            self.goaway = struct.unpack(">I", payload[4:8])[0]
        elif kind == PING and not flags & ACK:
            self.write(frame(PING, ACK, payload=payload))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.ended.add(stream)

    # Whether what was read makes room for more.
    credit = True

    def settings(self):
        while self.peer_settings is None:
            self.read_frame()
        return self.peer_settings

    def encode(self, fields):
        """Each field literally, never indexed: bytes or text, whatever they are."""
        def text(value):
            value = value.encode("latin-1") if isinstance(value, str) else value
            return integer(len(value), 7, 0) + value
        return b"".join(b"\0" + text(name) + text(value) for name, value in fields)

    def open(self, fields, end=False):
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.write(frame(HEADERS, END_HEADERS | END_STREAM * end, stream, self.encode(fields)))
        return stream

    def send(self, stream, data, end=False):
        self.write(frame(DATA, END_STREAM * end, stream, data))

    def head(self, stream):
        """The first head of an answer that is not informational."""
        while True:
            for head in self.heads.get(stream, []):
                if not dict(head)[b":status"].startswith(b"1"):
                    return head
            self.still(stream)
            self.read_frame()

    def data(self, stream, length):
        """So many bytes of an answer's body."""
        while len(self.bodies.get(stream, b"")) < length:
            self.still(stream)
            self.read_frame()
        taken = self.bodies[stream][:length]
        self.bodies[stream] = self.bodies[stream][length:]
        return taken

    def still(self, stream):
        if stream in self.reset:
            raise Closed(f"stream reset: {self.reset[stream]}")

    def whole(self, stream):
        """Status and body of an answer."""
        head = self.head(stream)
        while stream not in self.ended:
            self.still(stream)
            self.read_frame()
        return int(dict(head)[b":status"]), self.bodies.get(stream, b"")

    def until_closed(self):
        """Reads until the other side ends the connection; the code of its GOAWAY."""
        with contextlib.suppress(Closed):
            while True:
                self.read_frame()
        return self.goaway


def integer(value, bits, first):
    """RFC 7541, section 5.1."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out, value = bytearray((first | most,)), value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out) + bytes((value,))


def request(path="/", host="app.test", method="GET", *more, scheme="http"):
    return [(":method", method), (":scheme", scheme), (":path", path), (":authority", host), *more]
