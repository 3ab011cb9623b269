"""`kill -9` of every part under steady load, at random moments, some during deployments.

Control, agent and supervisor: no request fails. An instance or its shim: only requests that were
begun before it was dead. The edge: the same, and the port never refuses a connection. Afterwards
every service is what it was and every operation has ended.
"""

import http.client
import os
import random
import time

import botocore.exceptions

from support import host
from support.case import EkidenCase, settings
from support.load import Load, failures_text, figures
from support.server import FINAL
from support.wait import until


# How long after its death was seen a process may still hold its sockets, on a busy machine.
DYING_MS = 250


class Kills(EkidenCase):
    label = "kill"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.seed = int(os.environ.get("EKIDEN_E2E_SEED", time.time_ns() % 1_000_000))
        print(f"    EKIDEN_E2E_SEED={cls.seed}", flush=True)

    def setUp(self):
        self.random = random.Random(f"{self.seed} {self.id()}")

    def test_control(self):
        self.assertEqual(self.kill_repeatedly("kill-control", self.kill_role("control")), [])

    def test_agent(self):
        self.assertEqual(self.kill_repeatedly("kill-agent", self.kill_role("agent")), [])

    def test_supervisor(self):
        self.assertEqual(self.kill_repeatedly("kill-super", self.kill_role("supervisor")), [])

    def test_reload(self):
        """Nothing dies here: the settings change, and the program takes its own place."""
        def reload(_service):
            self.ekiden.write_setting("edge.keep_alive", f'"{self.random.randrange(30, 90)}s"')
            self.ekiden.cli("reload")

        failures = self.kill_repeatedly("reload", reload)
        self.assertEqual(failures, [])
        before = {role: self.ekiden.pid(role) for role in ("edge", "control", "agent")}
        self.ekiden.write_setting("edge.keep_alive", '"nonsense"')
        refused = self.ekiden.cli("reload", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("edge.keep_alive", refused.stderr)
        self.assertEqual(before, {role: self.ekiden.pid(role) for role in before})
        self.ekiden.write_setting("edge.keep_alive", '"75s"')

    def test_edge(self):
        deaths = []
        failures = self.kill_repeatedly("kill-edge", self.kill_role("edge"), deaths)
        self.assertEqual([f for f in failures if f["kind"] == "refused"], [])
        self.only_those_in_it(failures, deaths)

    def test_instance(self):
        deaths = []
        failures = self.kill_repeatedly("kill-instance", self.kill_instance, deaths, deploy=False)
        self.only_those_in_it(failures, deaths)

    def test_shim(self):
        deaths = []
        failures = self.kill_repeatedly("kill-shim", self.kill_shim, deaths, deploy=False)
        self.only_those_in_it(failures, deaths)

    def kill_repeatedly(self, name, kill, deaths=None, deploy=True):
        """Kills so often under load; the requests that failed."""
        service, other = self.running(name), self.running(f"{name}-2")
        arn = service["ServiceArn"]
        with Load(self.ekiden, service, other) as load:
            for number in range(settings.KILLS):
                operation = self.begin_deployment(arn) if deploy and number % 2 else None
                # A fault has no state to wait for: it comes when it comes.
                time.sleep(self.random.uniform(0, 0.7))
                died = kill(service)
                if deaths is not None:
                    deaths.append(died)
                self.ekiden.wait_serves()
                if operation:
                    self.succeeds(arn, operation)
                self.converges(service)
            self.converges(other)
            summary = load.end()
        print(f"    {settings.KILLS} kills; {figures(summary)}", flush=True)
        self.assertGreater(summary["succeeded"], 0)
        if summary["failed"]:
            print(failures_text(summary), flush=True)
        return summary["failures"]

    def begin_deployment(self, arn):
        return self.ekiden.client().start_deployment(ServiceArn=arn)["OperationId"]

    def kill_role(self, role):
        """Kills a role; the time, in milliseconds, when it was dead."""
        def kill(_service):
            pid = self.ekiden.pid(role)
            host.kill(pid)
            until(f"dead: the {role}", lambda: not host.alive(pid))
            died = time.time() * 1000
            until(f"another {role}", lambda: self.ekiden.pid(role) not in (None, pid), 30,
                  self.ekiden.tail)
            return died

        return kill

    def kill_instance(self, service):
        return self.kill_of_instance(service, lambda instance, first: first)

    def kill_shim(self, service):
        return self.kill_of_instance(service, lambda instance, first: self.ekiden.shims()[instance])

    def kill_of_instance(self, service, victim):
        instance = self.ekiden.whoami(service)["instance"]
        first = self.ekiden.first_process(instance)
        host.kill(victim(instance, first))
        until("dead: the instance", lambda: not host.alive(first))
        died = time.time() * 1000
        until("another instance", lambda: self.replaced(service, instance), 60, self.ekiden.tail)
        return died

    def replaced(self, service, instance):
        now = self.ekiden.living(service["ServiceArn"])
        return now and instance not in [i["InstanceId"] for i in now]

    def converges(self, service):
        """The service runs with one healthy instance in the route, and no operation goes on."""
        arn = service["ServiceArn"]

        def converged():
            try:
                instances = self.ekiden.living(arn)
                operation = self.ekiden.operation(arn)
                status = self.status(arn)
            except (OSError, http.client.HTTPException, botocore.exceptions.BotoCoreError):
                return False
            states = [(i["Status"], i["Routed"]) for i in instances]
            return (status, states, operation["Status"] in FINAL) == (
                "RUNNING", [("RUNNING", True)], True)

        until("converged", converged, 90,
              lambda: self.ekiden.instances_text(arn) + self.ekiden.tail())
        # Behind whatever waited for the front door.
        self.answers(service)

    def only_those_in_it(self, failures, deaths):
        """Each failed request was begun before a death, and no earlier than a request may take.

        A process of several threads is seen dead before the last of them has closed its sockets:
        what is sent on them meanwhile was in it.
        """
        for failure in failures:
            fits = any(failure["begun_ms"] - DYING_MS <= died <= failure["ended_ms"] + 1000
                       for died in deaths)
            self.assertTrue(fits, f"was in nothing that died: {failure}; deaths at {deaths}")
