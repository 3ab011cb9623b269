"""A web application to be deployed, loaded, broken and watched. Standard library only.

    /            who answers, for people           /whoami    the same as JSON
    /echo/TEXT   TEXT                              /env       the environment as JSON
    /large       1 MB, the same every time         /hash      SHA-256 of the body sent
    /health      200, or 503 after /health/fail    /slow?ms=N answers after N milliseconds
    /crash       ends at once with code 7          /log?lines=N&text=T  writes to standard output
    /net?host=H&port=P   tries to connect          /disk?mb=N writes N MiB to a file
    /busy?ms=N   works for N milliseconds of CPU

Every answer carries `x-instance`, `x-revision`, the `x-tag` of its request, and `x-held-max`, the most
requests that the instance ever held at once. On SIGTERM it stops
accepting, finishes what it holds, and ends. `BROKEN` in the environment makes a deployment that
fails: `exit`, `health`, `silent` (listens nowhere), `slow-start` (listens after 2 s).
"""

import asyncio
import hashlib
import json
import os
import signal
import socket
import sys
import time
import urllib.parse

LARGE_BYTES = 1 << 20
BODY_BYTES_MAX = 64 << 20
HEAD_BYTES_MAX = 64 << 10
KEEP_ALIVE_SECONDS = 5

IDENTITY = {
    "service": os.environ.get("EKIDEN_SERVICE", ""),
    "revision": os.environ.get("EKIDEN_REVISION", ""),
    "instance": os.environ.get("EKIDEN_INSTANCE", ""),
    "greeting": os.environ.get("GREETING", "hello"),
    "build": open("/srv/build").read().strip() if os.path.exists("/srv/build") else "",
}


def large_body():
    """1 MB of SHA-256("ekiden" + counter), the counter in 8 bytes, big-endian."""
    blocks = LARGE_BYTES // 32
    return b"".join(
        hashlib.sha256(b"ekiden" + counter.to_bytes(8, "big")).digest() for counter in range(blocks)
    )


class Application:
    def __init__(self):
        self.large = large_body()
        self.healthy = os.environ.get("BROKEN") != "health"
        self.stopping = False
        self.connections = {}
        self.held = self.held_max = 0

    async def answer(self, method, path, query, body):
        if path == "/":
            text = "{greeting} from {service}, revision {revision}, instance {instance}\n"
            return 200, text.format(**IDENTITY).encode()
        if path.startswith("/echo/"):
            return 200, path[len("/echo/"):].encode() + b"\n"
        if path == "/large":
            return 200, self.large
        if path == "/hash":
            return 200, hashlib.sha256(body).hexdigest().encode() + b"\n"
        if path == "/health":
            return (200, b"ok\n") if self.healthy else (503, b"told to fail\n")
        if path in ("/health/fail", "/health/ok"):
            self.healthy = path.endswith("ok")
            return 200, b"done\n"
        if path == "/whoami":
            return 200, as_json({**IDENTITY, "pid": os.getpid(), "uid": os.getuid(),
                                 "hostname": socket.gethostname()})
        if path == "/env":
            return 200, as_json(dict(os.environ))
        if path == "/slow":
            await asyncio.sleep(float(query.get("ms", "1000")) / 1000)
            return 200, b"slept\n"
        if path == "/busy":
            until = time.process_time() + float(query.get("ms", "100")) / 1000
            while time.process_time() < until:
                pass
            return 200, b"worked\n"
        if path == "/crash":
            print("told to crash", flush=True)
            os._exit(int(query.get("code", "7")))
        if path == "/log":
            for number in range(int(query.get("lines", "1"))):
                print(query.get("text", "line"), number, flush=True)
            return 200, b"logged\n"
        if path == "/net":
            return 200, as_json(await connects(query["host"], int(query["port"])))
        if path == "/disk":
            return 200, as_json(fill(int(query["mb"])))
        return 404, b"no such path\n"

    async def serve(self, reader, writer):
        task = asyncio.current_task()
        self.connections[task] = False
        try:
            while not self.stopping:
                try:
                    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), KEEP_ALIVE_SECONDS)
                except (asyncio.TimeoutError, asyncio.IncompleteReadError,
                        asyncio.LimitOverrunError):
                    break
                self.connections[task] = True
                if not await self.exchange(head, reader, writer):
                    break
                self.connections[task] = False
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.connections.pop(task, None)
            writer.close()

    async def exchange(self, head, reader, writer):
        lines = head.decode("latin-1").split("\r\n")
        method, target, version = lines[0].split(" ", 2)
        fields = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                fields[name.strip().lower()] = value.strip()
        body = await read_body(fields, reader)
        url = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(url.query))
        self.held += 1
        self.held_max = max(self.held_max, self.held)
        try:
            status, answer = await self.answer(method, url.path, query, body)
        finally:
            self.held -= 1
        keep = fields.get("connection", "").lower() != "close" and not self.stopping
        writer.write(
            f"HTTP/1.1 {status} {'OK' if status == 200 else 'Not OK'}\r\n"
            f"content-length: {len(answer)}\r\n"
            f"content-type: {'application/json' if answer[:1] == b'{' else 'text/plain'}\r\n"
            f"x-instance: {IDENTITY['instance']}\r\n"
            f"x-revision: {IDENTITY['revision']}\r\n"
            f"x-held-max: {self.held_max}\r\n"
            f"x-tag: {fields.get('x-tag', '')}\r\n"
            f"connection: {'keep-alive' if keep else 'close'}\r\n\r\n".encode()
        )
        if method != "HEAD":
            writer.write(answer)
        await writer.drain()
        return keep

    async def stop(self, server):
        """No new connections, no idle ones, and then the end of those that are busy."""
        self.stopping = True
        server.close()
        # A connection that is being accepted, or whose request is on its way, is still answered.
        await asyncio.sleep(0.2)
        for task, busy in list(self.connections.items()):
            if not busy:
                task.cancel()
        while self.connections:
            await asyncio.sleep(0.01)


async def read_body(fields, reader):
    if fields.get("expect", "").lower() == "100-continue":
        raise ConnectionError("not for this application")
    if fields.get("transfer-encoding", "").lower() == "chunked":
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            if size + sum(map(len, parts)) > BODY_BYTES_MAX:
                raise ConnectionError("the body is too long")
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return b"".join(parts)
    length = int(fields.get("content-length", "0"))
    if length > BODY_BYTES_MAX:
        raise ConnectionError("the body is too long")
    return await reader.readexactly(length)


async def connects(host, port):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 2)
        writer.close()
        return {"connected": True}
    except (OSError, asyncio.TimeoutError) as error:
        return {"connected": False, "error": repr(error)}


def fill(megabytes):
    try:
        with open("/var/tmp/fill", "ab") as file:
            for _ in range(megabytes):
                file.write(b"\0" * (1 << 20))
        return {"written": megabytes}
    except OSError as error:
        return {"error": repr(error)}


def as_json(value):
    return json.dumps(value).encode() + b"\n"


async def main():
    broken = os.environ.get("BROKEN", "")
    print(f"starting, broken={broken!r}", flush=True)
    if broken == "exit":
        print("cannot find the configuration", file=sys.stderr, flush=True)
        sys.exit(3)
    if broken == "silent":
        await asyncio.Event().wait()
    if broken == "slow-start":
        await asyncio.sleep(2)
    application = Application()
    server = await asyncio.start_server(
        application.serve, "0.0.0.0", int(os.environ.get("PORT", "8080")),
        limit=HEAD_BYTES_MAX, backlog=1024,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("listening", flush=True)
    await stop.wait()
    await application.stop(server)
    print("finished", flush=True)


asyncio.run(main())
