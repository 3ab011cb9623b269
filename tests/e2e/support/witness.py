"""Looks at every answer that clients are given, and remembers which errors there were."""

import collections
import json
import re

from . import model

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
DATE = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"
HEADERS = {"x-amzn-requestid": UUID, "content-type": r"application/x-amz-json-1\.0",
           "date": DATE, "content-length": r"\d+"}


class Witness:
    """Sees what boto3 is answered, before boto3 drops what it does not know."""

    def __init__(self):
        self.errors = collections.defaultdict(dict)  # by operation and code, a message of each
        self.succeeded = collections.Counter()
        self.faults = []
        self.requests = set()

    def watch(self, client):
        client.meta.events.register("before-parse.apprunner", self.saw)
        return client

    def saw(self, operation_model, response_dict, **_):
        operation, body = operation_model.name, response_dict["body"]
        headers = {name.lower(): value for name, value in response_dict["headers"].items()}
        for fault in self.look(operation, response_dict["status_code"], headers, body):
            self.faults.append(f"{operation}: {fault}")

    def look(self, operation, status, headers, body):
        """What is wrong with an answer."""
        yield from wrong_headers(headers, body)
        if headers.get("x-amzn-requestid") in self.requests:
            yield "its request id was another's"
        self.requests.add(headers.get("x-amzn-requestid"))
        try:
            answer = json.loads(body)
        except ValueError:
            yield f"no JSON: {body[:200]!r}"
            return
        if status == 200:
            self.succeeded[operation] += 1
            yield from model.faults(model.output_of(operation), answer)
        else:
            self.errors[operation].setdefault(answer.get("__type"), answer.get("message"))
            yield from wrong_error(status, answer)

    def forget_faults(self):
        faults, self.faults = self.faults, []
        return sorted(set(faults))


def wrong_headers(headers, body):
    for name, wanted in HEADERS.items():
        if not re.fullmatch(wanted, headers.get(name, "")):
            yield f"header {name} is {headers.get(name)!r}"
    if headers.get("content-length") != str(len(body)):
        yield f"content-length {headers.get('content-length')} for {len(body)} bytes"


def wrong_error(status, answer):
    """Errors have a bare code, and the same message twice; the model bounds it."""
    if set(answer) != {"__type", "Message", "message"}:
        yield f"an error has {sorted(answer)}"
    if answer.get("Message") != answer.get("message") or not answer.get("message"):
        yield f"two messages: {answer}"
    wanted = 500 if answer.get("__type") == "InternalServiceErrorException" else 400
    if answer.get("__type") in model.SERVICE.shape_names and status != wanted:
        yield f"{answer['__type']} with status {status}"
