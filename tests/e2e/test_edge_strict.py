"""What the edge passes on of malformed and borderline requests, beside nginx and HAProxy.

Each case goes to all three, in front of applications that keep every byte they get. Whatever the edge
passes on, a parser that knows only RFC 9112's strictest reading must find in those bytes, as the same
request that it finds in what the client sent: no other, no more, no less. And what both peers refuse,
the edge refuses, but for what is listed here with a reason.

EKIDEN_E2E_STRICT_SEED and EKIDEN_E2E_STRICT_CASE repeat one run, or one case of it.
"""

import asyncio
import collections
import concurrent.futures
import ipaddress
import os
import re
import unittest

from support import host, http2, settings, smuggling, smuggling2, strict_http
from support.front import ADDRESS, EdgeAlone, HAProxy, Nginx

AT_ONCE = 100
THREADS = concurrent.futures.ThreadPoolExecutor(3 * AT_ONCE)
# A proxy has said all it has to say when it was quiet for so long; saying more later only makes the
# test see less, since what arrives at the applications is judged after all cases.
QUIET_SECONDS = 0.3
CASE_SECONDS_MAX = 10
SHOWN = 50

# What the edge passes on though both peers refuse it: the strict reader has one reading of each.
PASSED_ON_ALONE = [
    (re.compile(rb"[^ ]+ [^ ]*[\"<>\\^`{|}][^ ]* "), "odd but visible characters in a target"),
    (re.compile(rb"TRACE "), "nginx serves no TRACE at all, so that HAProxy's is the only opinion"),
    (re.compile(rb"[A-Za-z-]*[^A-Za-z \r\n-][^ \r\n]* /"), "nginx knows only letters in methods"),
    (re.compile(rb"OPTIONS \* "), "nginx serves no `*` at all"),
    (re.compile(rb"PRI "), "HTTP/2's preface reserves the word; in HTTP/1.1 it is a method like any"),
    (re.compile(rb"[^\r\n]*%00"), "nginx decodes paths, and refuses NUL in them"),
    (re.compile(rb"(?s).*\r\n[^:\r\n]{256,}:"), "HAProxy keeps 255 bytes of a field's name"),
    (re.compile(rb"(?s)(?!.{0,7000}\r\n\r\n)"), "longer than what the peers keep of a head"),
]
# The same for HTTP/2.
PASSED_ON_ALONE_HTTP2 = [
    (lambda case: dict(case.fields).get(b":method") in (b"TRACE", b"PRI"), "as above"),
    (lambda case: any(byte in b'"<>\\^`{|}' for byte in dict(case.fields).get(b":path", b"")),
     "odd but visible characters in a target"),
    (lambda case: b"%00" in dict(case.fields).get(b":path", b""), "as above"),
    (lambda case: any(name in OWN | HOP_BY_HOP for name, _ in case.trailers or []),
     "trailers that may not be there are dropped (RFC 9110, section 6.5.1), the rest is good"),
]

# What a strict reader refuses and the edge does not see, with no harm: what it passes on lacks these
# parts, and is framed anew.
UNSEEN = [
    (re.compile(r"then Violation\(.(a fragment in the target|path b'#)"), "a fragment in :path"),
    (re.compile(r"then Violation\(.no field name: b':"), "a pseudo-header in trailers"),
]


class Recorder:
    """An application that reads strictly, answers what it could read, and keeps everything else."""

    def __init__(self):
        self.requests = collections.defaultdict(list)
        self.wrong = []
        self.unfinished = []

    async def start(self):
        self.server = await asyncio.start_server(self.serve, ADDRESS, 0, backlog=4096)
        return self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        data = b""
        try:
            while True:
                try:
                    request, used = strict_http.read(data) if data else (None, 0)
                except strict_http.Incomplete:
                    request = None
                except strict_http.Violation as violation:
                    self.wrong.append((str(violation), data))
                    return
                if request:
                    self.keep(request, data[:used])
                    data = data[used:]
                    body = b"" if request.method == b"HEAD" else b"ok"
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + body)
                    continue
                chunk = await reader.read(1 << 16)
                if not chunk:
                    break
                data += chunk
            if data:
                self.unfinished.append(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def keep(self, request, data):
        # Targets and fields may be damaged; where a request came from says each proxy by itself.
        client = request.values(b"x-forwarded-for")
        number = case_of(client[0]) if len(client) == 1 else None
        self.requests[number].append((request, data))


def address_of(number):
    """Each case comes from an address of its own."""
    return str(ipaddress.IPv4Address("127.1.0.0") + number)


def case_of(address):
    try:
        address = ipaddress.IPv4Address(address.decode("latin-1"))
    except ValueError:
        return None
    return int(address) - int(ipaddress.IPv4Address("127.1.0.0"))


async def send_http1(front, number, data):
    """Sends a case and reads until nothing more comes."""
    try:
        reader, writer = await asyncio.open_connection(
            ADDRESS, front.port, local_addr=(address_of(number), 0))
    except OSError as error:
        return f"no connection: {error}".encode()
    received = b""
    try:
        writer.write(data)
        await writer.drain()
        while chunk := await asyncio.wait_for(reader.read(1 << 16), QUIET_SECONDS):
            received += chunk
    except (TimeoutError, asyncio.TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return received


def exchange_http2(port, number, case):
    """Sends a case as one stream of a connection of its own, and reads to the end of its answer."""
    try:
        with http2.Connection(port, timeout=QUIET_SECONDS, source=address_of(number)) as connection:
            more = bool(case.data) or case.trailers is not None
            stream = connection.open(case.fields, end=not more)
            if case.data:
                connection.send(stream, case.data, end=case.trailers is None)
            if case.trailers is not None:
                connection.write(http2.frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM,
                                             stream, connection.encode(case.trailers)))
            while stream not in connection.ended and stream not in connection.reset:
                connection.read_frame()
    except (OSError, http2.Closed):
        pass


async def send_http2(front, number, case):
    port = getattr(front, "port_h2", front.port)
    await asyncio.get_running_loop().run_in_executor(THREADS, exchange_http2, port, number, case)


class Strict(unittest.TestCase):
    """Differential: Ekiden's edge, nginx, HAProxy."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if lacking := host.missing("nginx", "haproxy"):
            raise unittest.SkipTest(f"not installed: {', '.join(lacking)}")

    def test_http1(self):
        seed = settings.STRICT_SEED
        published = smuggling.published()
        generator = smuggling.Generator(seed)
        cases = {number: (name, build(number)) for number, (name, build) in enumerate(published, 1)}
        for number in range(len(cases) + 1, len(cases) + 1 + settings.STRICT_CASES):
            cases[number] = f"generated {number}", generator.case(number)
        if only := os.environ.get("EKIDEN_E2E_STRICT_CASE"):
            cases = {int(only): cases[int(only)]}
        print(f"    seed {seed}: {len(published)} published, {settings.STRICT_CASES} generated",
              flush=True)
        recorders = self.played(cases, send_http1)
        self.judge(cases, recorders, seed, passed_on_alone=PASSED_ON_ALONE)

    def test_http2(self):
        """By HTTP/2 of prior knowledge; what arrives is HTTP/1.1."""
        seed = settings.STRICT_SEED
        generator = smuggling2.Generator(seed)
        cases = list(smuggling2.published())
        count = len(cases)
        cases += [generator.case(number) for number in range(settings.STRICT_CASES // 2)]
        cases = {number: (case.name, case) for number, case in enumerate(cases, 1)}
        if only := os.environ.get("EKIDEN_E2E_STRICT_CASE"):
            cases = {int(only): cases[int(only)]}
        print(f"    seed {seed}: {count} published, {len(cases) - count} generated", flush=True)
        recorders = self.played(cases, send_http2)
        self.judge(cases, recorders, seed, passed_on_alone=PASSED_ON_ALONE_HTTP2)

    def played(self, cases, send):
        """What arrived. A peer that was too slow to pass a case on has not refused it: what only the
        edge passed on is tried again."""
        recorders = asyncio.run(self.play(cases, send))
        alone = {number: cases[number] for number in cases if recorders[EdgeAlone].requests[number]
                 and not any(recorders[peer].requests[number] for peer in (Nginx, HAProxy))}
        if alone:
            again = asyncio.run(self.play(alone, send))
            for peer in (Nginx, HAProxy):
                for number in alone:
                    recorders[peer].requests[number] += again[peer].requests[number]
        return recorders

    async def play(self, cases, send):
        """Sends every case to every proxy; what arrived at the application behind each."""
        recorders = {kind: Recorder() for kind in (EdgeAlone, Nginx, HAProxy)}
        ports = {kind: await recorder.start() for kind, recorder in recorders.items()}
        gate = asyncio.Semaphore(AT_ONCE)

        async def all_three(fronts, number, data):
            async with gate:
                async with asyncio.timeout(CASE_SECONDS_MAX):
                    await asyncio.gather(*(send(front, number, data) for front in fronts))

        # They start and stop in other threads: the applications are asked meanwhile.
        edge = EdgeAlone({"app.test": ports[EdgeAlone]}, head_time=2000, body_idle=2000)
        fronts = [edge, Nginx(ports[Nginx]), HAProxy(ports[HAProxy])]
        try:
            for front in fronts:
                await asyncio.to_thread(front.__enter__)
            await asyncio.gather(*(all_three(fronts, number, data)
                                   for number, (_, data) in cases.items()))
            self.assertTrue(edge.alive(), edge.tail())
            whole = b"GET /0 HTTP/1.1\r\nHost: app.test\r\n\r\n"
            for front in fronts:
                self.assertIn(b" 200 ", await send_http1(front, 0, whole), front.name)
        finally:
            for front in fronts:
                await asyncio.to_thread(front.__exit__)
        return recorders

    def judge(self, cases, recorders, seed, passed_on_alone):
        edge, peers = recorders[EdgeAlone], [recorders[Nginx], recorders[HAProxy]]
        found = [f"the application could not read what it got: {reason}\n    {data[:600]!r}"
                 for reason, data in edge.wrong]
        found += [f"a request of no case: {data[:600]!r}" for number, got in edge.requests.items()
                  for _, data in got if number not in cases and number != 0]
        counts = collections.Counter()
        for number, (name, sent) in cases.items():
            got = edge.requests.get(number, [])
            passed_by_peers = [bool(peer.requests.get(number)) for peer in peers]
            counts["passed on" if got else "refused"] += 1
            counts["passed on by nginx"] += passed_by_peers[0]
            counts["passed on by HAProxy"] += passed_by_peers[1]
            reasons = list(self.differences(number, sent, got))
            known = [why for pattern, why in UNSEEN for reason in reasons
                     if pattern.search(reason.replace("\\", ""))]
            if known and not isinstance(sent, bytes):
                counts[known[0]] += 1
                continue
            if got and not any(passed_by_peers) and not listed(sent, passed_on_alone):
                reasons.append("both peers refuse it")
            for reason in reasons:
                found.append(f"case {number} ({name}): {reason}\n    sent   {shown(sent)}\n"
                             + "".join(f"    passed {data[:600]!r}\n" for _, data in got))
        counts["bytes that an application could not read: nginx"] = len(peers[0].wrong)
        counts["bytes that an application could not read: HAProxy"] = len(peers[1].wrong)
        print("    " + ", ".join(f"{what} {count}" for what, count in counts.items()), flush=True)
        # A suite that passes nothing on has tested nothing.
        self.assertTrue(len(cases) < 100 or counts["passed on"] > len(cases) // 20, counts)
        if found:
            self.fail(f"{len(found)} findings; EKIDEN_E2E_STRICT_SEED={seed}\n"
                      + "\n".join(found[:SHOWN]))

    def differences(self, number, sent, got):
        """How the requests that arrived differ from those that a strict reader sees in what was sent.

        The edge may answer one by itself (its host is nobody's) and pass on the next."""
        read, end = read_sent(sent)
        client = address_of(number).encode()
        place = 0
        for request, _ in got:
            differing = [list(compare(candidate, request, client)) for candidate in read[place:]]
            if [] in differing:
                place += differing.index([]) + 1
                continue
            for reason in differing[0] if differing else []:
                yield reason
            if not differing:
                yield f"a strict reader sees {len(read)} requests in it, and then {end!r}"
            return


def listed(sent, patterns):
    if isinstance(sent, bytes):
        return any(pattern.match(sent) for pattern, _ in patterns)
    return any(test(sent) for test, _ in patterns)


def shown(sent):
    return repr(sent[:600] if isinstance(sent, bytes) else vars(sent))[:1500]


def read_sent(sent):
    """What a strict reader sees in what a client sent."""
    if isinstance(sent, bytes):
        return strict_http.read_all(sent, lenient_start=True)
    try:
        return [strict_http.of_http2(sent.fields, sent.data, sent.trailers)], None
    except strict_http.Violation as violation:
        return [], violation


# Written by the edge.
OWN = {b"host", b"content-length", b"transfer-encoding", b"x-forwarded-for", b"x-forwarded-proto",
       b"x-forwarded-host", b"x-forwarded-port", b"x-request-id", b"forwarded",
       b"traceparent", b"x-amzn-trace-id"}
# One each, whatever was sent: W3C Trace Context, section 3.2, and X-Ray's header.
TRACES = {b"traceparent": re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]"),
          b"x-amzn-trace-id": re.compile(rb"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=[01]")}
# Of one connection only.
HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"te",
              b"proxy-authorization", b"http2-settings", b"proxy"}


def compare(sent, got, client):
    """What a request says other than it said when it was sent."""
    for what, before, after in (
            ("method", sent.method, got.method), ("target", sent.origin, got.target),
            ("Host", sent.host.lower(), got.host.lower()), ("body", sent.body, got.body)):
        if before != after:
            yield f"{what} was {before[:80]!r}, became {after[:80]!r}"
    before = collections.Counter(sent.fields)
    crumbs = sent.values(b"cookie")
    if len(crumbs) > 1 and got.values(b"cookie") == [b"; ".join(crumbs)]:
        before[b"cookie", b"; ".join(crumbs)] += 1  # RFC 9113, section 8.2.3
    upgrade = {b"upgrade"} if got.values(b"connection") == [b"Upgrade"] else set()
    for field in got.fields:
        if field[0] in OWN:
            continue
        if field == (b"connection", b"Upgrade") and got.values(b"upgrade"):
            continue  # the offer of another protocol is passed on as an offer
        if field[0] in HOP_BY_HOP - upgrade and field != (b"te", b"trailers"):
            yield f"passed on, though of one connection only: {field!r}"
        elif not before[field]:
            yield f"a field from nowhere: {field!r}"
        before[field] -= 1
    nominated = {token.strip(b" \t").lower() for value in sent.values(b"connection")
                 for token in value.split(b",")}
    for name, _ in got.fields:
        if name in nominated - OWN - upgrade - {b"", b"close", b"te"}:
            yield f"passed on, though Connection names it: {name!r}"
    for name, right in ((b"x-forwarded-for", [client]), (b"x-forwarded-proto", [b"http"]),
                        (b"forwarded", [])):
        if got.values(name) != right:
            yield f"{name!r} is {got.values(name)!r}"
    for name, form in TRACES.items():
        values = got.values(name)
        if len(values) != 1 or not form.fullmatch(values[0]):
            yield f"{name!r} is {values!r}"
    after = collections.Counter(got.trailers)
    if extra := after - collections.Counter(sent.trailers):
        yield f"trailers from nowhere: {extra!r}"
    if bad := {name for name, _ in got.trailers} & (OWN | HOP_BY_HOP):
        yield f"trailers that mean something: {bad!r}"


__all__ = ["Strict"]
