"""Requests of HTTP/2 that are wrong, or nearly: what becomes dangerous when they are written as HTTP/1.1."""

import random

from .smuggling import HEAD_LINES, HOSTS, LENGTHS, OBFUSCATIONS

PSEUDO = ("method", "scheme", "path", "authority")
INJECTIONS = [b"\r\nx-injected: 1", b"\nx-injected: 1", b"\rx-injected: 1", b"\0", b"\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n",
              b" HTTP/1.1\r\nHost: evil.test\r\n\r\n", b"\r\ntransfer-encoding: chunked", b"\r\ncontent-length: 0", b"\x0b", b"\x7f", b"\xff",
              b" ", b"\t", b"#x", b" x", b"\r", b"\n"]
SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.test\r\nX-Smuggled: 1\r\n\r\n"
NAMES = [b"", b" ", b"X-Upper", b"x upper", b"x:y", b":x", b":status", b"x\r\ny", b"x\ny", b"x\0y", b"x\xff", b"x: y\r\nz", b"x(y)", b"\tx",
         b"x ", b":path", b":method", b"content-length\r\n", b"x-\xc3\xa9"]
CONNECTION_FIELDS = [(b"connection", b"close"), (b"connection", b"keep-alive"), (b"connection", b"x-a"), (b"keep-alive", b"timeout=5"),
                     (b"proxy-connection", b"keep-alive"), (b"upgrade", b"h2c"), (b"upgrade", b"websocket"), (b"te", b"gzip"),
                     (b"te", b"trailers"), (b"te", b"trailers, gzip"), (b"http2-settings", b"AAMAAABkAAQAAP__"), (b"transfer-encoding", b"chunked"),
                     (b"transfer-encoding", b"identity"), (b"transfer_encoding", b"chunked"), (b"content_length", b"1"),
                     (b"proxy", b"http://evil.test"), (b"proxy-authorization", b"Basic eDp5")]


class Case:
    """Fields, pieces of the body, fields after it."""

    def __init__(self, name, fields, data=b"hello", trailers=None):
        self.name, self.fields, self.data, self.trailers = name, fields, data, trailers


def usual(tag=b"x", **other):
    values = {"method": b"POST", "scheme": b"http", "path": b"/" + tag, "authority": b"app.test", **other}
    return [(b":" + name.encode(), values[name]) for name in PSEUDO if values[name] is not None]


def published():
    cases = [Case("plain", usual()), Case("no body", usual(method=b"GET"), b"")]
    # H2.CL and H2.TE: a length that is not the stream's.
    for length in [*LENGTHS, b"0", b"4", b"6", b"1000", b"5"]:
        cases.append(Case(f"H2.CL {length[:30]!r}", usual() + [(b"content-length", length)]))
        cases.append(Case(f"H2.CL smuggled {length[:30]!r}", usual() + [(b"content-length", length)], SMUGGLED))
        cases.append(Case(f"H2.CL.CL {length[:30]!r}", usual() + [(b"content-length", b"5"), (b"content-length", length)]))
        cases.append(Case(f"H2.CL without body {length[:30]!r}", usual() + [(b"content-length", length)], b""))
    for line in OBFUSCATIONS:
        name, _, value = line.partition(b":")
        for spelt in (name, name.lower()):
            cases.append(Case(f"H2.TE {line[:40]!r} {spelt == name}", usual() + [(spelt, value.strip(b" "))], SMUGGLED))
    for injection in INJECTIONS:
        for name in PSEUDO:
            values = dict(zip(PSEUDO, (b"POST", b"http", b"/x", b"app.test")))
            for value in (values[name] + injection, injection + values[name], injection):
                cases.append(Case(f"injected into :{name} {value[:40]!r}", usual(**{name: value}), SMUGGLED))
        for value in (b"b" + injection, injection + b"b", b"b" + injection + b"c"):
            cases.append(Case(f"injected into a value {value[:40]!r}", usual() + [(b"x-a", value)], SMUGGLED))
            cases.append(Case(f"injected into cookie {value[:40]!r}", usual() + [(b"cookie", value), (b"cookie", b"c=d")]))
        cases.append(Case(f"injected into a name {injection[:40]!r}", usual() + [(b"x-a" + injection, b"b")], SMUGGLED))
        cases.append(Case(f"injected into a trailer {injection[:40]!r}", usual(), b"hello", [(b"x-a", b"b" + injection)]))
    for name in NAMES:
        cases.append(Case(f"name {name!r}", usual() + [(name, b"b")]))
        cases.append(Case(f"trailer {name!r}", usual(), b"hello", [(name, b"b")]))
        cases.append(Case(f"name first {name!r}", [(name, b"b")] + usual()))
    for field in CONNECTION_FIELDS:
        cases.append(Case(f"field {field!r}", usual() + [field, (b"x-a", b"hop")], SMUGGLED))
        cases.append(Case(f"trailer {field!r}", usual(), b"hello", [field]))
    for name in PSEUDO:
        cases.append(Case(f"no :{name}", usual(**{name: None})))
        cases.append(Case(f"empty :{name}", usual(**{name: b""})))
        field = dict(usual())[b":" + name.encode()]
        cases.append(Case(f"two :{name}", usual() + [(b":" + name.encode(), field)]))
        cases.append(Case(f"two different :{name}", [(b":" + name.encode(), b"/evil")] + usual()))
        cases.append(Case(f"late :{name}", usual(**{name: None}) + [(b"x-a", b"b"), (b":" + name.encode(), field)]))
        cases.append(Case(f":{name} in trailers", usual(), b"hello", [(b":" + name.encode(), field)]))
    for host in HOSTS:
        cases.append(Case(f":authority {host[:40]!r}", usual(authority=host)))
        cases.append(Case(f"host beside {host[:40]!r}", usual() + [(b"host", host)]))
        cases.append(Case(f"host alone {host[:40]!r}", usual(authority=None) + [(b"host", host)]))
        cases.append(Case(f"two hosts {host[:40]!r}", usual(authority=None) + [(b"host", b"app.test"), (b"host", host)]))
    for path in (b"*", b"x", b"//", b"//evil.test/", b"http://evil.test/", b"http://app.test/x", b"/a b", b"/#", b"/\\", b"/%00", b"?x", b"/x?y?z", b"/..", b"/\xff",
                 b"/" + b"a" * 17_000):
        for method in (b"GET", b"OPTIONS", b"CONNECT"):
            cases.append(Case(f":path {method!r} {path[:30]!r}", usual(method=method, path=path), b""))
    for method in (b"CONNECT", b"get", b"G T", b"GET / HTTP/1.1", b"PRI", b"A" * 300, b"G@T", b"GET:", b"HEAD", b"TRACE"):
        cases.append(Case(f":method {method[:30]!r}", usual(method=method), b""))
    for scheme in (b"https", b"ftp", b"HTTP", b"http://evil.test/x?", b"http ", b"1", b"h\xc3\xa9"):
        cases.append(Case(f":scheme {scheme!r}", usual(scheme=scheme)))
    for protocol in (b"h2c", b"connect-udp", b"", b"websocket\r\nx: y"):
        cases.append(Case(f":protocol {protocol!r}", usual(method=b"CONNECT") + [(b":protocol", protocol)], b""))
        cases.append(Case(f":protocol with GET {protocol!r}", usual() + [(b":protocol", protocol)], b""))
    for line in HEAD_LINES:
        name, _, value = line.partition(b":")
        cases.append(Case(f"line {line[:40]!r}", usual() + [(name.lower(), value.strip(b" "))]))
    for name in (b"content-length", b"host", b"x-forwarded-for", b"content-type", b"authorization", b"x-a", b"trailer", b"expect"):
        cases.append(Case(f"trailer {name!r}", usual(), b"hello", [(name, b"6")]))
    cases.append(Case("many fields", usual() + [(b"x-%d" % n, b"y") for n in range(200)]))
    cases.append(Case("many cookies", usual() + [(b"cookie", b"a%d=b" % n) for n in range(50)]))
    return cases


class Generator:
    """Random requests, nearly right. The same seed and number give the same one."""

    def __init__(self, seed):
        self.seed = seed

    def case(self, number):
        random_ = random.Random(f"h2/{self.seed}/{number}")
        fields = usual()
        data = random_.choice((b"", b"hello", b"hello", SMUGGLED))
        trailers = random_.choice((None, None, None, [(b"x-sum", b"1")]))
        if random_.random() < 0.5:
            fields.append((b"content-length", b"%d" % len(data)))
        for _ in range(random_.randrange(4)):
            fields.append(random_.choice(((b"x-a", b"b"), (b"cookie", b"a=b"), (b"te", b"trailers"), (b"accept", b"*/*"), (b"x-forwarded-for", b"6.6.6.6"),
                                          (b"host", b"app.test"))))
        for _ in range(random_.choice((0, 0, 1, 1, 1, 2))):
            kind, at = random_.randrange(6), random_.randrange(len(fields))
            name, value = fields[at]
            if kind == 0:
                fields[at] = name, value + random_.choice(INJECTIONS)
            elif kind == 1:
                fields[at] = name + random_.choice(INJECTIONS), value
            elif kind == 2:
                fields.insert(at, random_.choice(CONNECTION_FIELDS))
            elif kind == 3:
                fields.append((b"content-length", random_.choice(LENGTHS)))
            elif kind == 4:
                fields.insert(random_.randrange(len(fields)), fields.pop(at))
            else:
                fields.insert(at, (random_.choice(NAMES), b"b"))
        return Case(f"generated {number}", fields, data, trailers)
