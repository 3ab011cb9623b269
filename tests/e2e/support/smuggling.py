"""Requests that are wrong, or nearly: the published classes of request smuggling, and a generator.

Every target and field that is the case's own carries its number, so that what arrives anywhere can be
told apart: `/<number>` is asked for openly, `/smuggled-<number>` is what must never be asked for unless
a strict reader sees it in the open too.
"""

import random

HOST = b"app.test"

# Ways to write `Transfer-Encoding: chunked` so that one of two readers overlooks or misreads it.
OBFUSCATIONS = [
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked",
    b"Transfer-Encoding:chunked", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: \tchunked",
    b"Transfer-Encoding:  chunked", b"Transfer-Encoding: chunked ", b"Transfer-Encoding: chunked\t",
    b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding:\x0cchunked",
    b"Transfer-Encoding: chunked\x0b", b"Transfer-Encoding: chunked\0", b"Transfer-Encoding:\0chunked",
    b"Transfer-Encoding\0: chunked", b" Transfer-Encoding: chunked", b"\tTransfer-Encoding: chunked",
    b"X: x\r\n Transfer-Encoding: chunked", b"X: x\nTransfer-Encoding: chunked",
    b"X: x\rTransfer-Encoding: chunked", b"X: x\0\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding:\n chunked", b"Transfer-Encoding\r\n: chunked",
    b"Transfer-Encoding: chunked\r\n X: x", b"Transfer-Encoding: chun\r\n ked",
    b"Transfer-Encoding: Chunked", b"transfer-encoding: CHUNKED", b"TRANSFER-ENCODING: chunked",
    b"Transfer_Encoding: chunked", b"Transfer Encoding: chunked", b"Transfer.Encoding: chunked",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: cow, chunked",
    b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: chunked,", b"Transfer-Encoding: , chunked",
    b'Transfer-Encoding: "chunked"', b"Transfer-Encoding: 'chunked'", b"Transfer-Encoding: chunked;a=b",
    b"Transfer-Encoding: chunked; q=0.5", b"Transfer-Encoding;: chunked", b"Transfer-Encoding=chunked",
    b"Transfer-Encoding: chunk", b"Transfer-Encoding: ch\xc3\xbcnked", b"Transfer-Encoding: \xffchunked",
    b"Transfer-Encoding: chunked\xa0", b"Transfer-Encoding:\xa0chunked", b"Transfer\xe2\x80\x91Encoding: chunked",
    b"Transfer-Encoding:", b"Transfer-Encoding: ", b"X-Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\r\n", b"Transfer-Encoding: \r\n\tchunked", b"Foo: bar\r\n\tTransfer-Encoding: chunked",
    b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    b"Connection: Content-Length\r\nTransfer-Encoding: chunked",
]

LENGTHS = [b"0", b"5", b"+5", b"-5", b"05", b"0005", b" 5", b"5 ", b"5\t", b"\t5", b"5,5", b"5, 5", b"5,6",
           b"0x5", b"5e0", b"5.0", b"", b" ", b"five", b"5 5", b"5;5", b"5\x0b", b"\x0b5", b"5\0", b"\xb2",
           b"18446744073709551621", b"18446744073709551616", b"9223372036854775808",
           b"4294967301", b"99999999999999999999999999", b"0" * 30 + b"5", b"1" * 200]

CHUNKS = [b"5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello\r\n0\r\n",
          b"5;a=b\r\nhello\r\n0\r\n\r\n", b'5;a="b"\r\nhello\r\n0\r\n\r\n', b"5;a\r\nhello\r\n0;b\r\n\r\n",
          b"5 ;a\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n",
          b"5\t\r\nhello\r\n0\r\n\r\n", b"05\r\nhello\r\n00\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
          b"+5\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5h\r\nhello\r\n0\r\n\r\n",
          b"\r\n5\r\nhello\r\n0\r\n\r\n", b"5\r\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n",
          b"5\rhello\r\n0\r\n\r\n", b"5;\nhello\r\n0\r\n\r\n", b"5;a=\nhello\r\n0\r\n\r\n",
          b'5;a="\r\nhello\r\n0\r\n\r\n', b"5;a\0b\r\nhello\r\n0\r\n\r\n", b"5;\x7f\r\nhello\r\n0\r\n\r\n",
          b"FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n", b"10000000000000005\r\nhello\r\n0\r\n\r\n",
          b"100000005\r\nhello\r\n0\r\n\r\n", b"0000000000000000000005\r\nhello\r\n0\r\n\r\n",
          b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n", b"\r\n\r\n", b"\n0\r\n\r\n", b"hello",
          b"0\r\n\r\n", b"0\n\n", b"0\r\n\n", b"00000\r\n\r\n", b"0;a=b\r\n\r\n", b"-0\r\n\r\n",
          b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
          b"5\r\nhello\r\n0\r\nHost: evil.test\r\n\r\n", b"5\r\nhello\r\n0\r\nA : b\r\n\r\n",
          b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\nA: b\n\r\n",
          b"5\r\nhello\r\n0\r\n folded\r\n\r\n", b"5\r\nhello\r\n0\r\nA: b\0\r\n\r\n",
          b"5\r\nhello\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"]

HEAD_LINES = [b"X-A: b", b"X-A:b", b"X-A:", b"X-A: ", b"X-A : b", b"X-A\t: b", b": b", b":", b"X-A", b"X A: b",
              b"X-A: b\x01c", b"X-A: b\0c", b"X-A: b\x7fc", b"X-A: b\xffc", b"X-A: b\tc", b"\0X-A: b",
              b"X-A: b\rX-Injected: c", b"X-A: b\nX-Injected: c", b"X-A: b\r\n c", b"X-A: b\r\n\tc",
              b"X-A: b\r\r\nX-Injected: c", b"X(A): b", b"X\"A: b", b"X/A: b", b"X\xc3\xa9: b", b"X-A:: b",
              b"X-A: " + b"b" * 7000, b"X-" + b"A" * 3000 + b": b", b"Connection: close", b"Connection: keep-alive",
              b"Connection: X-A\r\nX-A: hop", b"Connection: close, X-A\r\nX-A: hop", b"Connection: Host",
              b"Connection: Content-Length", b"Connection: Transfer-Encoding", b"Connection: ,,", b"Connection:\0",
              b"Keep-Alive: timeout=5", b"TE: trailers", b"TE: chunked", b"Trailer: X-A", b"Upgrade: h2c",
              b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
              b"Connection: Upgrade\r\nUpgrade: other/1", b"Proxy-Connection: keep-alive", b"Proxy: http://evil.test",
              b"Proxy-Authorization: Basic eDp5", b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7",
              b"X_Forwarded_For: 6.6.6.6", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil.test",
              b"X-Forwarded-Port: 1", b"X-Forwarded-Prefix: /evil", b"Forwarded: for=6.6.6.6", b"X-Real-IP: 6.6.6.6",
              b"X-Request-Id: mine", b"Content_Length: 9", b"Host: evil.test", b"Host: app.test", b"host: app.test",
              b"Host : app.test", b"Host:", b" Host: evil.test", b"H\xc3\xb6st: evil.test", b"Content-Type: text/plain",
              b"Expect: 100-continue", b"Expect: 200-ok", b"Expect: 100-Continue", b"Range: bytes=0-", b"Cookie: a=b; c=d"]

# Nothing is wrong with these.
PLAIN_LINES = [b"X-A: b", b"X-B:", b"X-C:c \t", b"Accept: */*", b"Cookie: a=b; c=d", b"TE: trailers", b"Trailer: X-A",
               b"Connection: keep-alive", b"Connection: X-Hop", b"X-Hop: hop", b"X-Forwarded-For: 6.6.6.6",
               b"Forwarded: for=6.6.6.6", b"X-Latin: \xe9", b"Expect: 100-continue"]

HOSTS = [b"app.test", b"APP.test", b"app.test:80", b"app.test.", b"app.test:", b"app.test:x", b"app.test:80:80",
         b"app.test, evil.test", b"app.test evil.test", b"app.test\tevil.test", b"app.test/x", b"app.test#x", b"app.test?x",
         b"user@app.test", b"evil.test@app.test", b"app.test@evil.test", b"[::1]", b"[::1]:80", b"[::1", b"::1", b"",
         b" ", b"app..test", b".app.test", b"app.test\\evil.test", b"app%2etest", b"app.test\0", b"app.test\x0b",
         b"app_test", b"evil.test", b"a" * 300, b"\xc3\xa4pp.test", b"http://app.test", b"app.test:99999", b"app.test:080"]

VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.01", b"HTTP/01.1", b"HTTP/1,1", b"HTTP/1",
            b"http/1.1", b"HTTP/1.1 ", b" HTTP/1.1", b"HTTP /1.1", b"HTTPS/1.1", b"HTTP/1.1\t", b"HTTP/1.1x", b"", b"HTTP/11",
            b"HTTP/3", b"ICY/1.1", b"HTTP/1.1\0", b"HTTP/-1.1", b"HTTP/1.+1"]

METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"get", b"G T", b"GE\0T", b"GET\t", b"",
           b"MADE-UP", b"G@T", b"A" * 300, b"\xffGET", b"PRI", b"QUERY", b"GET:", b"!#$%&'*+-.^_`|~", b" GET", b"\tGET"]


def published():
    """The classes, as pairs of a name and a function from the case's number to its bytes."""
    cases = []

    def case(name, *parts):
        def build(number):
            tag = b"%d" % number
            return b"".join(part if isinstance(part, bytes) else part(tag) for part in parts)
        cases.append((name, build))

    def post(*lines, version=b"HTTP/1.1"):
        def build(tag):
            return b"\r\n".join([b"POST /" + tag + b" " + version, b"Host: " + HOST, *lines, b"", b""])
        return build

    def smuggled(tag):
        return b"GET /smuggled-" + tag + b" HTTP/1.1\r\nHost: " + HOST + b"\r\nX-Smuggled: " + tag + b"\r\n\r\n"

    def after_length(line, *more):
        """`Content-Length` spans what a reader of chunks takes for the next request."""
        def build(tag):
            body = b"0\r\n\r\n" + smuggled(tag)
            return post(b"Content-Length: %d" % len(body), line, *more)(tag) + body
        return build

    def after_chunks(line, *more):
        """The chunk hides what a reader of `Content-Length` takes for the next request."""
        def build(tag):
            hidden = smuggled(tag)
            size = b"%x\r\n" % len(hidden)
            return post(b"Content-Length: %d" % len(size), line, *more)(tag) + size + hidden + b"\r\n0\r\n\r\n"
        return build

    for line in OBFUSCATIONS:
        name = line.decode("latin-1")
        case(f"CL.TE {name!r}", after_length(line))
        case(f"TE.CL {name!r}", after_chunks(line))
        case(f"TE before CL {name!r}", lambda tag, line=line: post(line, b"Content-Length: 5")(tag)
             + b"0\r\n\r\n", smuggled)
        case(f"TE.TE {name!r}", after_length(b"Transfer-Encoding: chunked", line))
        case(f"TE.TE back {name!r}", after_chunks(line, b"Transfer-Encoding: chunked"))
        case(f"TE alone {name!r}", post(line), b"5\r\nhello\r\n0\r\n\r\n", smuggled)
        case(f"TE in 1.0 {name!r}", post(line, version=b"HTTP/1.0"), b"5\r\nhello\r\n0\r\n\r\n", smuggled)
    for first in LENGTHS:
        case(f"CL {first!r}", post(b"Content-Length: " + first), b"hello", smuggled)
        case(f"CL unspaced {first!r}", post(b"Content-Length:" + first), b"hello", smuggled)
        for second in (b"0", b"5", first):
            case(f"CL.CL {first!r} {second!r}",
                 post(b"Content-Length: " + first, b"Content-Length: " + second), b"hello", smuggled)
            case(f"CL.CL back {first!r} {second!r}",
                 post(b"Content-Length: " + second, b"Content-Length: " + first), b"hello", smuggled)
    for name in (b"Content-Length", b"Content-Length ", b" Content-Length", b"Content_Length", b"Content-Length\0", b"Content Length",
                 b"Content-Length\t", b"Content-Length\x0b", b"content-length", b"Content-L\xc3\xa9ngth", b"X\r\n Content-Length"):
        case(f"CL named {name!r}", lambda tag, name=name: post(name + b": %d" % len(smuggled(tag)))(tag), smuggled)
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"):
        # CL.0: a body where a reader expects none.
        case(f"CL.0 {method!r}", lambda tag, method=method: method + post(
            b"Content-Length: %d" % len(smuggled(tag)))(tag)[4:], smuggled)
        case(f"TE.0 {method!r}", lambda tag, method=method: method + post(
            b"Transfer-Encoding: chunked")(tag)[4:] + b"%x\r\n" % len(smuggled(tag)), smuggled, b"\r\n0\r\n\r\n")
    for chunks in CHUNKS:
        case(f"chunks {chunks!r}", post(b"Transfer-Encoding: chunked"), chunks, smuggled)
    for line in HEAD_LINES:
        for position in ("first", "last"):
            lines = (b"X-First: 1", b"X-Last: 2")
            lines = (line, *lines) if position == "first" else (*lines, line)
            case(f"line {position} {line[:60]!r}", post(*lines, b"Content-Length: 5"), b"hello", smuggled)
        case(f"line before Host {line[:60]!r}", lambda tag, line=line: b"GET /" + tag + b" HTTP/1.1\r\n" + line
             + b"\r\nHost: " + HOST + b"\r\n\r\n", smuggled)
    for host in HOSTS:
        case(f"Host {host[:40]!r}", lambda tag, host=host: b"GET /" + tag + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        for other in (b"app.test", b"evil.test"):
            case(f"absolute {host[:40]!r} {other!r}", lambda tag, host=host, other=other: b"GET http://" + host + b"/" + tag
                 + b" HTTP/1.1\r\nHost: " + other + b"\r\n\r\n")
            case(f"two hosts {host[:40]!r} {other!r}", lambda tag, host=host, other=other: b"GET /" + tag
                 + b" HTTP/1.1\r\nHost: " + host + b"\r\nHost: " + other + b"\r\n\r\n")
    for target in (b"*", b"", b"x", b"//", b"/%00", b"/%0d%0aX-Injected:%201", b"/../", b"/./", b"/a b", b"/a\tb", b"/a\0b", b"/a\rb",
                   b"/a\nb", b"/a#b", b"/\xff", b"/\\", b"/a?b?c", b"?a", b"http:/app.test/", b"http://app.test", b"http://app.test?a",
                   b"https://app.test/", b"HTTP://app.test/", b"ftp://app.test/", b"//evil.test/", b"http://user@app.test/",
                   b"http://app.test:80/", b"http://app.test:81/", b"http:///", b"app.test:80", b"/" + b"a" * 17_000, b"/\x7f", b"/|", b'/"<>'):
        for method in (b"GET", b"OPTIONS", b"CONNECT"):
            case(f"target {method!r} {target[:40]!r}", lambda tag, method=method, target=target: method + b" " + target + tag
                 + b" HTTP/1.1\r\nHost: " + HOST + b"\r\n\r\n")
    for version in VERSIONS:
        case(f"version {version!r}", post(b"Content-Length: 5", version=version), b"hello", smuggled)
    for method in METHODS:
        case(f"method {method[:40]!r}", lambda tag, method=method: method + post(b"Content-Length: 5")(tag)[4:], b"hello", smuggled)
    for end in (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r", b"\x0b\r\n", b" \r\n", b"\0\r\n", b"\xe2\x80\xa8", b"\x85"):
        for line in range(5):
            def build(tag, end=end, line=line):
                lines = [b"POST /" + tag + b" HTTP/1.1", b"Host: " + HOST, b"X-A: b", b"Content-Length: 5", b""]
                return b"".join(text + (end if number == line else b"\r\n") for number, text in enumerate(lines))
            case(f"line {line} ends with {end!r}", build, b"hello", smuggled)
    for before in (b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\r\n" * 100, b" ", b"\0", b"\t", b"\xef\xbb\xbf", b"hello\r\n"):
        case(f"before {before[:20]!r}", before, post(b"Content-Length: 5"), b"hello", smuggled)
    case("PRI", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", post())
    case("0.9", lambda tag: b"GET /" + tag + b"\r\n", smuggled)
    case("many fields", lambda tag: post(*(b"X-%d: %d" % (n, n) for n in range(150)))(tag), smuggled)
    case("long head", lambda tag: post(*(b"X-%d: " % n + b"a" * 1000 for n in range(50)))(tag), smuggled)
    # A body that never ends, and a client that leaves.
    case("short body", post(b"Content-Length: 50"), b"hello")
    case("short chunk", post(b"Transfer-Encoding: chunked"), b"50\r\nhello")
    case("no last chunk", post(b"Transfer-Encoding: chunked"), b"5\r\nhello\r\n")
    return cases


class Generator:
    """Random requests, mostly nearly right. The same seed and number give the same bytes."""

    def __init__(self, seed):
        self.seed = seed

    def case(self, number):
        random_ = random.Random(f"{self.seed}/{number}")
        data = b"".join(self.request(random_, number, smuggled)
                        for smuggled in [False] + [True] * random_.choice((0, 1, 1, 2)))
        for _ in range(random_.choice((0, 0, 0, 0, 0, 0, 1, 1, 2, 4))):
            data = self.damage(random_, data)
        return data

    def request(self, random_, number, smuggled):
        def pick(usual, others, chance=0.06):
            return random_.choice(others) if random_.random() < chance else usual

        tag = (b"smuggled-%d" if smuggled else b"%d") % number
        method = pick(random_.choice((b"GET", b"POST", b"POST", b"PUT", b"HEAD", b"OPTIONS")), METHODS)
        path = b"/" + tag + pick(b"", (b"?a=b", b"/..", b"#x", b"%00", b"\\", b" x", b"?\x01"))
        target = pick(path, (b"http://" + random_.choice(HOSTS) + path, b"*", b"http://app.test" + path), 0.08)
        end = pick(b"\r\n", (b"\n", b"\r", b"\r\r\n", b" \r\n"), 0.03)
        lines = [b"Host: " + pick(HOST, HOSTS)]
        body = b""
        kind = random_.choice(("none", "length", "length", "chunked", "chunked", "chunked", "both", "odd"))
        text = bytes(random_.choice(b"abc\r\n0 ") for _ in range(random_.randrange(30)))
        length = b"Content-Length: " + pick(b"%d" % len(text), LENGTHS, 0.1)
        coding = pick(b"Transfer-Encoding: chunked", OBFUSCATIONS, 0.12)
        chunks = pick(b"%x\r\n" % len(text) + text + b"\r\n0\r\n\r\n" if text else b"0\r\n\r\n", CHUNKS, 0.2)
        if kind == "length":
            lines, body = lines + [length], text
        elif kind == "chunked":
            lines, body = lines + [coding], chunks
        elif kind == "both":
            lines, body = lines + random_.sample([length, coding], 2), random_.choice((text, chunks))
        elif kind == "odd":
            lines += random_.choices([length, coding], k=random_.randrange(4))
            body = random_.choice((b"", text, chunks))
        for _ in range(random_.randrange(4)):
            lines.insert(random_.randrange(len(lines) + 1), pick(random_.choice(PLAIN_LINES), HEAD_LINES, 0.15))
        first = method + b" " + target + b" " + pick(b"HTTP/1.1", VERSIONS, 0.05)
        return b"".join(line + pick(end, (b"\r\n",), 0.9) for line in (first, *lines)) + b"\r\n" + body

    @staticmethod
    def damage(random_, data):
        at = random_.randrange(len(data) + 1)
        spice = random_.choice((b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b";", b",", b"\x0b", b"\xff", b"0", b"\r\n ", b"\r\n\r\n"))
        match random_.randrange(4):
            case 0:
                return data[:at] + spice + data[at:]
            case 1:
                return data[:at] + data[at + 1:]
            case 2:
                return data[:at] + spice + data[at + 1:]
            case _:
                end = min(len(data), at + random_.randrange(1, 12))
                return data[:end] + data[at:end] + data[end:]
