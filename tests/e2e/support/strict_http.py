"""HTTP/1.1 requests read as strictly as RFC 9112 can be meant: one reading, or none.

Whatever could be read in two ways is a `Violation`. It shares no code and no library with anything it
judges. Section numbers are of RFC 9112 unless another is named.
"""

import dataclasses
import re

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([01])")
FIELD = re.compile(rb"(" + TOKEN + rb"):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
LENGTH = re.compile(rb"[0-9]{1,18}")
CHUNK = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:[ \t]*;[ \t]*" + TOKEN +
    rb'(?:[ \t]*=[ \t]*(?:' + TOKEN + rb'|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"))?)*)')
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+,;=]+)(?::[0-9]{0,5})?")


class Violation(Exception):
    """Why the bytes have no single reading."""


class Incomplete(Exception):
    """More bytes are needed."""


@dataclasses.dataclass
class Request:
    method: bytes
    target: bytes
    version: int
    fields: list
    body: bytes
    trailers: list

    def values(self, name):
        return [value for have, value in self.fields if have == name]

    @property
    def host(self):
        return self.values(b"host")[0] if self.values(b"host") else None

    @property
    def origin(self):
        """The target as a path and query."""
        scheme = re.match(rb"(?i)https?://[^/?]*", self.target)
        return (self.target[scheme.end():] or b"/") if scheme else self.target


def read_all(data, lenient_start=False):
    """The requests in `data`, and what came after the last: `None`, `Incomplete` or `Violation`.

    With `lenient_start`, empty lines before a request are passed over (section 2.2).
    """
    requests = []
    while True:
        while lenient_start and data.startswith(b"\r\n"):
            data = data[2:]
        if not data or (lenient_start and data == b"\r"):
            return requests, None
        try:
            request, used = read(data)
        except (Violation, Incomplete) as end:
            return requests, end
        requests.append(request)
        data = data[used:]


def read(data):
    """The request at the start of `data`, and how many bytes it has."""
    lines, at = read_lines(data, 0)
    if not lines:
        raise Violation("an empty line where a request should begin")
    matched = REQUEST_LINE.fullmatch(lines[0])
    if not matched:
        raise Violation(f"no request line: {lines[0][:80]!r}")
    method, target, version = matched[1], matched[2], int(matched[3])
    fields = [read_field(line) for line in lines[1:]]
    request = Request(method, target, version, fields, b"", [])
    check_target(request)
    request.body, request.trailers, at = read_body(request, data, at)
    return request, at


def read_lines(data, at):
    """Lines up to an empty one, and where what follows begins. Each ends with CR LF and has
    neither inside; what is wrong in a line that is not whole is wrong already."""
    lines = []
    while True:
        end = re.compile(rb"[\r\n\0]").search(data, at)
        if not end:
            raise Incomplete()
        at_end = end.start()
        if data[at_end:at_end + 1] != b"\r":
            raise Violation(f"a bare line feed or NUL after {data[at:at_end][-40:]!r}")
        if at_end + 1 == len(data):
            raise Incomplete()
        if data[at_end + 1:at_end + 2] != b"\n":
            raise Violation(f"a bare carriage return after {data[at:at_end][-40:]!r}")
        line, at = data[at:at_end], at_end + 2
        if not line:
            return lines, at
        lines.append(line)


def read_field(line):
    matched = FIELD.fullmatch(line)
    if not matched:
        raise Violation(f"no field: {line[:80]!r}")  # obs-fold too, section 5.2
    return matched[1].lower(), matched[2].rstrip(b" \t")


def check_target(request):
    """Sections 3.2 and 3.2.2."""
    hosts = request.values(b"host")
    if len(hosts) > 1:
        raise Violation("more than one Host")
    if not hosts:
        raise Violation("no Host")  # HTTP/1.0 may lack it; nothing says then whose it is
    if not HOST.fullmatch(hosts[0]):
        raise Violation(f"Host is none: {hosts[0][:80]!r}")
    target = request.target
    if b"#" in target:
        raise Violation("a fragment in the target")
    if target.startswith(b"/"):
        return
    if target == b"*" and request.method == b"OPTIONS":
        return
    absolute = re.fullmatch(rb"(?i)https?://([^/?]*)(?:/.*)?", target)
    if request.method == b"CONNECT" or not absolute:
        raise Violation(f"a target of no form: {target[:80]!r}")
    if absolute[1].lower() != hosts[0].lower():
        raise Violation("target and Host differ")


def read_body(request, data, at):
    """Section 6.3, without what it lets a recipient repair."""
    lengths, codings = request.values(b"content-length"), request.values(b"transfer-encoding")
    if codings:
        if lengths:
            raise Violation("both lengths")
        if request.version == 0:
            raise Violation("a transfer coding in HTTP/1.0")
        if [coding.lower() for coding in codings] != [b"chunked"]:
            raise Violation(f"transfer codings: {codings!r}")
        return read_chunks(data, at)
    if len(lengths) > 1:
        raise Violation("more than one length")
    if not lengths:
        return b"", [], at
    if not LENGTH.fullmatch(lengths[0]):
        raise Violation(f"no length: {lengths[0][:80]!r}")
    end = at + int(lengths[0])
    if end > len(data):
        raise Incomplete()
    return data[at:end], [], end


def read_chunks(data, at):
    """Section 7.1."""
    body = b""
    while True:
        end = data.find(b"\r\n", at)
        line = data[at:] if end < 0 else data[at:end]
        if re.search(rb"[\r\n\0]", line if end >= 0 else line[:-1]):
            raise Violation("a bare line end or NUL in a chunk's line")
        if end < 0:
            # A line without end may be hopeless already.
            if line and not re.match(rb"[0-9A-Fa-f]", line):
                raise Violation(f"no chunk size: {line[:40]!r}")
            raise Incomplete()
        matched = CHUNK.fullmatch(line)
        if not matched:
            raise Violation(f"no chunk size: {line[:80]!r}")
        size, at = int(matched[1], 16), end + 2
        if size == 0:
            lines, at = read_lines(data, at)
            trailers = [read_field(line) for line in lines]
            return body, trailers, at
        if size > 1 << 62:
            raise Violation("a chunk of more than anybody has")
        if at + size + 2 > len(data):
            after = data[at + size:]
            if after and not b"\r\n".startswith(after):
                raise Violation("a chunk without end")
            raise Incomplete()
        if data[at + size:at + size + 2] != b"\r\n":
            raise Violation("a chunk without end")
        body += data[at:at + size]
        at += size + 2


# RFC 9113, section 8.2.2.
OF_CONNECTION = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}


def of_http2(fields, data, trailers):
    """A request of HTTP/2 as the one of HTTP/1.1 that it means (RFC 9113, section 8)."""
    pseudo, regular = {}, []
    for name, value in fields:
        if name.startswith(b":"):
            if regular or name in pseudo:
                raise Violation(f"a pseudo-header twice or late: {name!r}")
            pseudo[name] = value
        else:
            regular.append(field_of_http2(name, value))
    if set(pseudo) - {b":authority"} != {b":method", b":scheme", b":path"}:
        raise Violation(f"pseudo-headers: {sorted(pseudo)!r}")
    method, path = pseudo[b":method"], pseudo[b":path"]
    if pseudo[b":scheme"].lower() not in (b"http", b"https"):
        raise Violation(f"scheme {pseudo[b':scheme']!r}")
    if not re.fullmatch(TOKEN, method) or not re.fullmatch(rb"[\x21-\x7e]+", path):
        raise Violation("no method or path")
    if not path.startswith(b"/") and (method, path) != (b"OPTIONS", b"*"):
        raise Violation(f"path {path[:80]!r}")
    hosts = [value for name, value in regular if name == b"host"]
    if b":authority" in pseudo:
        if any(host.lower() != pseudo[b":authority"].lower() for host in hosts):
            raise Violation("authority and Host differ")
        hosts = hosts[1:]
        regular = [(b"host", pseudo[b":authority"])] + [
            field for field in regular if field[0] != b"host"]
    if hosts and (b":authority" in pseudo or len(hosts) > 1):
        raise Violation("more than one Host")
    lengths = [value for name, value in regular if name == b"content-length"]
    if len(lengths) > 1 or any(not LENGTH.fullmatch(one) or int(one) != len(data) for one in lengths):
        raise Violation(f"lengths {lengths!r} of {len(data)} bytes")
    request = Request(method, path, 1, regular, data, [
        field_of_http2(name, value) for name, value in trailers or []])
    check_target(request)
    return request


def field_of_http2(name, value):
    """Section 8.2.1, and no field of a connection."""
    if not re.fullmatch(TOKEN, name) or name != name.lower():
        raise Violation(f"no field name: {name[:80]!r}")
    if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value) or value != value.strip(b" \t"):
        raise Violation(f"no field value: {value[:80]!r}")
    if name in OF_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise Violation(f"a field of HTTP/1's connections: {name!r}")
    return name, value
