"""Clients and applications at their worst. Each: the edge's memory stays bounded, another service's
requests are all answered meanwhile, and afterwards everything is as before.

The edge runs by itself, with bounds on time that are shorter than usual.
"""

import contextlib
import os
import random
import resource
import socket
import struct
import threading
import time
import unittest

from support import apps, http2
from support.front import ADDRESS, EdgeAlone
from support.wait import until

HOSTILE, GOOD = "hostile.test", "good.test"
BOUNDS = {"head_time": 1500, "body_idle": 1500, "response_idle": 2000, "client_write_idle": 2000,
          "keep_alive_idle": 60_000, "queue_time": 3000, "connections_per_worker": 15_000}
# What the edge may grow by under any attack here: buffers of everything that is open at once.
GROWTH_BYTES_MAX = 96 << 20
GET = f"GET / HTTP/1.1\r\nHost: {HOSTILE}\r\n\r\n".encode()
CLOSE = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


class Application:
    """Does to each request what the test says, in a thread for each connection."""

    def __init__(self):
        self.listener = socket.create_server((ADDRESS, 0), backlog=4096)
        self.port = self.listener.getsockname()[1]
        self.behave = answer_well
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(60)
            while True:
                read_head(connection)
                self.behave(connection)

    def close(self):
        self.listener.close()


def read_head(connection):
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise OSError("closed")
        received += chunk
    return received


def answer_well(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Bystander:
    """A client of another service that asks all the time and must always be answered."""

    def __init__(self, port):
        self.port, self.asked, self.failures = port, 0, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.ask, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def ask(self):
        connection = None
        while not self.over.wait(0.005):
            fresh = self.asked % 4 == 0
            try:
                if connection is None or fresh:
                    if connection:
                        connection.close()
                    connection = socket.create_connection((ADDRESS, self.port), 20)
                self.asked += 1
                connection.sendall(f"GET /echo HTTP/1.1\r\nHost: {GOOD}\r\n\r\n".encode())
                head = read_head(connection)
                if not head.startswith(b"HTTP/1.1 200"):
                    raise OSError(f"answered {head[:100]!r}")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r")[0])
                body = head.partition(b"\r\n\r\n")[2]
                while len(body) < length:
                    body += connection.recv(1 << 16)
            except OSError as error:
                self.failures.append(repr(error))
                connection = None


def ask(port, data=GET, timeout=20):
    """Sends bytes and reads to the end of the connection, or of what comes in time."""
    with socket.create_connection((ADDRESS, port), timeout) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        return drained(connection)


def drained(connection):
    received = b""
    with contextlib.suppress(OSError):
        while chunk := connection.recv(1 << 16):
            received += chunk
    return received


def cause(answer):
    return answer.lower().partition(b"x-ekiden-cause:")[2].split(b"\r")[0].strip().decode()


class EdgeHostile(unittest.TestCase):
    """One edge before a hostile application and a good one."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        cls.good = cls.enterClassContext(apps.web())
        cls.app = cls.enterClassContext(contextlib.closing(Application()))
        ports = {HOSTILE: cls.app.port, GOOD: cls.good.port}
        cls.edge = cls.enterClassContext(EdgeAlone(ports, **BOUNDS))

    def setUp(self):
        self.app.behave = answer_well
        self.before = self.edge.pss_bytes()
        self.bystander = self.enterContext(Bystander(self.edge.port))
        until("the bystander is served", lambda: self.bystander.asked > 5, 20)
        self.peak, self.growth_bytes_max = self.before, GROWTH_BYTES_MAX

    def tearDown(self):
        self.peak = max(self.peak, self.edge.pss_bytes())
        asked = self.bystander.asked
        until("the bystander is still served", lambda: self.bystander.asked > asked + 5, 30,
              self.edge.tail)
        self.assertTrue(self.edge.alive(), self.edge.tail())
        self.assertEqual(self.bystander.failures, [])
        self.app.behave = answer_well
        # The application may have much to get over; the edge is well at once.
        until("the attacked service is served", lambda: b"200 OK" in ask(self.edge.port, CLOSE), 30)
        self.assertLess(self.peak - self.before, self.growth_bytes_max)
        print(f"    grew by {(self.peak - self.before) / (1 << 20):.1f} MiB; the bystander had "
              f"{self.bystander.asked} requests answered", flush=True)

    def look(self):
        self.peak = max(self.peak, self.edge.pss_bytes())

    @contextlib.contextmanager
    def many(self, count, data=b"", name=HOSTILE):
        """So many connections, each having sent something."""
        with contextlib.ExitStack() as stack:
            connections = []
            for _ in range(count):
                connection = stack.enter_context(socket.create_connection((ADDRESS, self.edge.port), 20))
                if data:
                    connection.sendall(data)
                connections.append(connection)
            yield connections

    # ---- clients

    def test_slow_heads(self):
        """Byte by byte, for longer than a head may take: each is cut off with its cause."""
        with self.many(500, b"GET / HTTP/1.1\r\nHost: ") as connections:
            for byte in GET[22:30]:
                for connection in connections:
                    with contextlib.suppress(OSError):
                        connection.sendall(bytes((byte,)))
                time.sleep(0.3)
            self.look()
            causes = {cause(drained(connection)) for connection in connections}
        self.assertEqual(causes, {"head_too_slow"})

    def test_slow_bodies(self):
        head = f"POST / HTTP/1.1\r\nHost: {HOSTILE}\r\nContent-Length: 1000000\r\n\r\nabc".encode()
        self.app.behave = swallow
        with self.many(300, head) as connections:
            time.sleep(1)
            self.look()
            causes = {cause(drained(connection)) for connection in connections}
        self.assertEqual(causes, {"body_too_slow"})

    def test_clients_that_do_not_read(self):
        """Each has asked for far more than fits anywhere, and takes none of it."""
        self.app.behave = answer_without_end
        with self.many(40, GET) as connections:
            for _ in range(8):
                time.sleep(0.5)
                self.look()
            # Cut off: what was on its way is still read, and then the connection is over.
            for connection in connections:
                connection.settimeout(20)
                drained(connection)

    def test_a_client_that_reads_a_byte_a_second(self):
        self.app.behave = answer_large
        with socket.create_connection((ADDRESS, self.edge.port), 20) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(GET)
            for _ in range(5):
                self.assertTrue(connection.recv(1))
                time.sleep(1)
                self.look()

    def test_ten_thousand_idle_connections(self):
        """Most say nothing at all: each is lent no buffers."""
        self.growth_bytes_max = 10_000 * (4 << 10)
        count = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 2000)
        with self.many(count) as connections:
            for connection in random.Random(1).sample(connections, 200):
                with contextlib.suppress(ConnectionError):
                    connection.sendall(GET)
            self.look()
        self.assertEqual(count, 10_000, "the limit of descriptors is too low for the test")

    def test_connections_that_are_opened_and_reset(self):
        linger = struct.pack("ii", 1, 0)
        for _ in range(3000):
            connection = socket.create_connection((ADDRESS, self.edge.port), 20)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.sendall(GET)
            connection.close()
        self.look()

    def test_random_bytes(self):
        random_ = random.Random(7)
        for _ in range(500):
            ask(self.edge.port, random_.randbytes(random_.randrange(1, 2000)) + b"\r\n\r\n")
        self.look()

    # ---- applications

    def asked_by_many(self, count=200, data=CLOSE):
        with self.many(count, data) as connections:
            self.look()
            return [drained(connection) for connection in connections]

    def test_an_application_that_never_answers(self):
        self.app.behave = swallow
        causes = {cause(answer) for answer in self.asked_by_many(300)}
        self.assertEqual(causes, {"app_timed_out"})

    def test_an_application_that_answers_garbage(self):
        for garbage in (b"\0" * 100, b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"HTTP/1.1 99 X\r\n\r\n",
                        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"hello\r\n\r\n", os.urandom(4000) + b"\r\n\r\n",
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
                        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
                        b"HTTP/1.1 103 X\r\n\r\n" * 100, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"):
            self.app.behave = say(garbage)
            with self.subTest(garbage=garbage[:40]):
                answer = ask(self.edge.port, CLOSE)
                final = answer[answer.rfind(b"HTTP/1.1 5"):]
                # What never becomes a head has only ended early.
                self.assertIn(cause(final), ("app_bad_response", "app_closed_early"), answer[-300:])
        self.look()

    def test_an_application_that_breaks_off(self):
        for part in (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
                     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"):
            self.app.behave = say(part)
            answer = ask(self.edge.port, CLOSE)
            self.assertIn(b"200 OK", answer)
            # The client can tell that it is not whole.
            self.assertFalse(answer.endswith(b"0\r\n\r\n"), answer)
        for behave in (hang_up, reset):
            self.app.behave = behave
            self.assertEqual(cause(ask(self.edge.port, CLOSE)), "app_closed_early")
        self.look()

    def test_an_application_that_answers_before_the_body_ended(self):
        self.app.behave = say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        head = CLOSE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 50000000\r\n\r\n")
        answers = self.asked_by_many(20, head + b"x" * 20_000)
        self.assertEqual({answer[:12] for answer in answers}, {b"HTTP/1.1 413"})

    def test_an_application_that_closes_after_each_answer(self):
        self.app.behave = say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        with socket.create_connection((ADDRESS, self.edge.port), 20) as connection:
            for _ in range(300):
                connection.sendall(GET)
                self.assertIn(b"200 OK", read_head(connection))
        self.look()

    # ---- HTTP/2

    def h2(self, **options):
        return http2.Connection(self.edge.port, **options)

    def test_rapid_reset(self):
        """CVE-2023-44487: opened and reset at once, as fast as it goes."""
        self.app.behave = swallow
        cancel = struct.pack(">I", 8)
        for _ in range(5):
            with self.h2() as connection, contextlib.suppress(http2.Closed):
                head = connection.encode(http2.request(host=HOSTILE))
                for burst in range(50):
                    connection.write(b"".join(
                        http2.frame(http2.HEADERS, 5, stream, head)
                        + http2.frame(http2.RST_STREAM, 0, stream, cancel)
                        for stream in range(1 + 200 * burst, 201 + 200 * burst, 2)))
                    self.look()
                connection.until_closed()

    def test_continuation_flood(self):
        """CVE-2024-27316: a field section that never ends."""
        with self.h2() as connection:
            connection.write(http2.frame(http2.HEADERS, 0, 1, connection.encode(http2.request(host=HOSTILE))))
            block = connection.encode([("x-a", "b" * 1000)]) * 16
            with self.assertRaises(http2.Closed):
                for _ in range(5000):
                    connection.write(http2.frame(http2.CONTINUATION, 0, 1, block[:16000]))
            self.look()

    def test_empty_continuations(self):
        with self.h2() as connection:
            connection.write(http2.frame(http2.HEADERS, 0, 1, connection.encode(http2.request(host=HOSTILE))))
            with self.assertRaises((http2.Closed, TimeoutError)):
                for _ in range(3000):
                    connection.write(http2.frame(http2.CONTINUATION, 0, 1) * 100)
            self.look()

    def flood(self, frames, bursts=200):
        """The same bytes again and again without reading; the connection may live or end."""
        with self.h2(timeout=5) as connection, contextlib.suppress(http2.Closed, TimeoutError):
            for burst in range(bursts):
                connection.write(frames)
                if burst % 20 == 0:
                    self.look()
        self.look()

    def test_settings_and_ping_floods(self):
        self.flood(http2.setting((4, 65535)) * 1000)
        self.flood(http2.frame(http2.PING, payload=b"12345678") * 1000)
        self.flood(http2.frame(http2.SETTINGS, http2.ACK) * 1000)

    def test_floods_of_frames_that_do_nothing(self):
        self.flood(http2.frame(http2.PRIORITY, 0, 1, b"\0\0\0\0\1") * 1000)
        self.flood(http2.frame(0xee, 0, 0, b"unknown") * 1000)
        self.flood(http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 1000)
        with self.h2(timeout=5) as connection, contextlib.suppress(http2.Closed, TimeoutError):
            stream = connection.open(http2.request(host=HOSTILE, method="POST"))
            for _ in range(200):
                connection.write(http2.frame(http2.DATA, 0, stream) * 1000)
        self.look()

    def test_windows_that_stay_shut(self):
        """Answers wait for room that never comes; the edge does not collect them."""
        self.app.behave = answer_large
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                connection = stack.enter_context(self.h2(settings=[(4, 0)]))
                for _ in range(50):
                    connection.open(http2.request(host=HOSTILE), end=True)
            for _ in range(6):
                time.sleep(0.5)
                self.look()

    def test_windows_that_overflow(self):
        for stream in (0, 1):
            with self.h2() as connection:
                connection.open(http2.request(host=HOSTILE, method="POST"))
                update = http2.frame(http2.WINDOW_UPDATE, 0, stream, struct.pack(">I", 0x7fffffff))
                with contextlib.suppress(http2.Closed):
                    connection.write(update * 2)
                    while not connection.goaway and 1 not in connection.reset:
                        connection.read_frame()
                self.assertTrue(connection.goaway or 1 in connection.reset)

    def test_header_bombs(self):
        """A field of the table, named again and again: little on the wire, much in memory."""
        with self.h2() as connection, contextlib.suppress(http2.Closed):
            large = b"\x40" + http2.integer(3, 7, 0) + b"x-a" + http2.integer(3000, 7, 0) + b"b" * 3000
            block = connection.encode(http2.request(host=HOSTILE)) + large + b"\xbe" * 10_000
            for stream in range(1, 400, 2):
                connection.write(http2.frame(http2.HEADERS, 5, stream, block))
                self.look()
            connection.until_closed()

    def test_streams_without_end(self):
        """More at once than are allowed: the rest is refused, those that are open are answered."""
        self.app.behave = swallow
        with self.h2() as connection:
            most = connection.settings()[3]
            streams = [connection.open(http2.request(host=HOSTILE), end=True) for _ in range(most + 50)]
            with contextlib.suppress(http2.Closed, TimeoutError):
                while len(connection.heads) + len(connection.reset) < len(streams):
                    connection.read_frame()
            self.look()
            self.assertGreaterEqual(len(connection.reset) + bool(connection.goaway), 1)

    def test_broken_frames(self):
        random_ = random.Random(3)
        for _ in range(100):
            with self.h2(timeout=0.2) as connection, contextlib.suppress(http2.Closed, TimeoutError):
                for _ in range(5):
                    connection.write(http2.frame(random_.randrange(12), random_.randrange(256), random_.choice((0, 1, 2, 3, 0x7fffffff)),
                                                 random_.randbytes(random_.choice((0, 1, 4, 5, 8, 9, 100)))))
                connection.until_closed()
        self.look()


def swallow(connection):
    while connection.recv(1 << 16):
        pass


def answer_large(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 10_000_000)


def answer_without_end(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        connection.sendall(b"x" * 100_000)


def hang_up(connection):
    raise OSError("as the test wants it")


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise OSError("as the test wants it")


def say(data):
    """Says it, and nothing more, and closes when the other side does."""
    def behave(connection):
        connection.sendall(data)
        # Not a reset: what was sent has to arrive.
        connection.shutdown(socket.SHUT_WR)
        swallow(connection)
        raise OSError("closed")
    return behave


__all__ = ["EdgeHostile"]
