"""A client of the agent's socket: frames of JSON, as crates/engine/src/remote.rs defines them."""

import json
import socket
import struct

PROTOCOL = 1


class Agent:
    """One call at a time; nothing between it and the agent but the socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.next = 0
        self.send({"protocol": PROTOCOL, "release": "bench"})
        self.receive()

    def send(self, message):
        body = json.dumps(message).encode()
        self.socket.sendall(struct.pack(">I", len(body)) + body)

    def receive(self):
        (length,) = struct.unpack(">I", self.exactly(4))
        return json.loads(self.exactly(length))

    def exactly(self, length):
        parts = []
        while length:
            part = self.socket.recv(length)
            if not part:
                raise ConnectionError("the agent closed the connection")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def call(self, ask, **members):
        """The answer; an error of the engine's is raised."""
        self.next += 1
        self.send({"id": self.next, "request": {"ask": ask, **members}})
        while True:
            event = self.receive()
            if event["say"] == "answered" and event["id"] == self.next:
                break
        result = event["result"]
        if "Ok" not in result:
            raise AssertionError(f"{ask}: {result}")
        return result["Ok"]

    def images(self, command, **members):
        return self.call("images", command={"command": command, **members})

    def instance(self, instance):
        """What is observed of an instance, once."""
        probe = Agent(self.socket.getpeername())
        try:
            probe.send({"id": 1, "request": {"ask": "subscribe"}})
            while (event := probe.receive())["say"] != "observed":
                pass
            return next((i for i in event["instances"] if i["id"] == instance), None)
        finally:
            probe.socket.close()
