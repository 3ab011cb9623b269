"""Signed calls of the API over one kept connection, with as little client in the way as Python has."""

import hashlib
import hmac
import http.client
import json
import os
import time

SERVICE = "apprunner"
TYPE = "application/x-amz-json-1.0"
SIGNED = "content-type;host;x-amz-date;x-amz-target"


class Api:
    """A client of one Ekiden; each call answers the output and how long it took, in microseconds."""

    def __init__(self, server, region):
        key = server.key()
        self.id, self.secret, self.region = key["access_key_id"], key["secret_access_key"], region
        self.host = f"127.0.0.1:{server.api_port}"
        self.connection = http.client.HTTPConnection("127.0.0.1", server.api_port, timeout=60)
        self.day, self.key = None, None

    def call(self, operation, **members):
        """The output; a failure raises."""
        return self.timed(operation, **members)[0]

    def timed(self, operation, **members):
        body = json.dumps(members).encode()
        headers = self.sign(f"AppRunner.{operation}", body)
        began = time.perf_counter_ns()
        self.connection.request("POST", "/", body, headers)
        response = self.connection.getresponse()
        answer = response.read()
        took = (time.perf_counter_ns() - began) / 1000
        if response.status != 200:
            raise RuntimeError(f"{operation}: {response.status} {answer[:500]!r}")
        return json.loads(answer), took

    def sign(self, target, body):
        now = time.gmtime()
        stamp, day = time.strftime("%Y%m%dT%H%M%SZ", now), time.strftime("%Y%m%d", now)
        scope = f"{day}/{self.region}/{SERVICE}/aws4_request"
        canonical = "\n".join(("POST", "/", "", f"content-type:{TYPE}", f"host:{self.host}",
                               f"x-amz-date:{stamp}", f"x-amz-target:{target}", "", SIGNED,
                               hashlib.sha256(body).hexdigest()))
        text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope,
                          hashlib.sha256(canonical.encode()).hexdigest()))
        if day != self.day:
            key = ("AWS4" + self.secret).encode()
            for part in (day, self.region, SERVICE, "aws4_request"):
                key = hmac.new(key, part.encode(), hashlib.sha256).digest()
            self.day, self.key = day, key
        signature = hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()
        return {"Host": self.host, "Content-Type": TYPE, "X-Amz-Date": stamp,
                "X-Amz-Target": target,
                "Authorization": f"AWS4-HMAC-SHA256 Credential={self.id}/{scope}, "
                                 f"SignedHeaders={SIGNED}, Signature={signature}"}


def cpu_microseconds(pid):
    """What a process has used of the CPU, user and system."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")
