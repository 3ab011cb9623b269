"""Cycles of create, deploy, fail, kill and delete leave nothing behind."""

import concurrent.futures
import http.client
import itertools
import random

import botocore.exceptions

from support import host, images
from support.case import EkidenCase, settings
from support.census import census, settled
from support.server import service_request
from support.wait import until

AT_ONCE = 3


class Leaks(EkidenCase):
    label = "leak"

    def test_cycles_leave_nothing(self):
        images.tiny()
        self.random = random.Random(settings.CYCLES)
        self.numbers = itertools.count()
        for _ in range(4):  # what is made once and kept: connections, pools, the image
            self.cycle()
        self.kill_something()
        self.ekiden.wait_serves()
        before = census(self.ekiden)
        done = 0
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            while done < settings.CYCLES:
                batch = min(10, settings.CYCLES - done)
                cycles = [pool.submit(self.cycle) for _ in range(batch)]
                self.kill_something()
                for cycle in cycles:
                    cycle.result()
                done += batch
                if done % 100 == 0:
                    print(f"    {done} cycles", flush=True)
        self.ekiden.wait_serves()
        settled(self.ekiden, before)

    def cycle(self):
        number = next(self.numbers)
        kind = number % 5
        command = "false" if kind == 3 else None
        arn = self.call("create_service", **self.request(f"leak-{number}", command))
        if kind in (0, 1):
            self.rest(arn)
            if self.status_of(arn) == "RUNNING":
                self.call("start_deployment", ServiceArn=arn)
        if kind == 4:
            self.rest(arn)
            self.call("pause_service", ServiceArn=arn)
        self.rest(arn)
        self.call("delete_service", ServiceArn=arn)
        self.rest(arn)
        assert self.status_of(arn) == "DELETED"

    def request(self, name, command):
        return service_request(name, images.tiny(), command=command, memory="0.5 GB",
                               cpu="0.25 vCPU")

    def call(self, operation, **members):
        """Calls until control answers: it may just have been killed.

        A call whose answer was lost is repeated, and then refused because it is done already.
        """
        client = self.ekiden.client()
        arns = []

        def called():
            try:
                answer = getattr(client, operation)(**members)
                arns.append(answer.get("Service", {}).get("ServiceArn", members.get("ServiceArn")))
            except (botocore.exceptions.BotoCoreError, OSError):
                return False
            except botocore.exceptions.ClientError as error:
                code = error.response["Error"]["Code"]
                if code in ("InvalidStateException", "InvalidRequestException"):
                    arns.append(members.get("ServiceArn") or self.find(members["ServiceName"]))
                elif error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                    raise
            return bool(arns)

        until(f"answered: {operation}", called, 60, self.ekiden.tail)
        return arns[0]

    def find(self, name):
        found = self.ekiden.client().list_services()["ServiceSummaryList"]
        return next(s["ServiceArn"] for s in found if s["ServiceName"] == name)

    def status_of(self, arn):
        return until("told: the status", lambda: self.look(arn), 60, self.ekiden.tail)

    def look(self, arn):
        try:
            return self.status(arn)
        except (botocore.exceptions.BotoCoreError, OSError, http.client.HTTPException):
            return None
        except botocore.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
                raise
            return None

    def rest(self, arn):
        until("at rest", lambda: self.look(arn) not in (None, "OPERATION_IN_PROGRESS"), 120,
              lambda: self.ekiden.instances_text(arn) + self.ekiden.tail())

    def kill_something(self):
        role = self.random.choice(["control", "agent", "edge", "supervisor", "instance", "shim"])
        shims = self.ekiden.shims()
        if role in ("instance", "shim"):
            if not shims:
                return
            instance, pid = self.random.choice(sorted(shims.items()))
            victim = pid if role == "shim" else self.ekiden.first_process(instance)
        else:
            victim = self.ekiden.pid(role)
        if victim is not None:
            host.kill(victim)
