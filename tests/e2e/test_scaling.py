"""Services grow under load, shrink after it, go to nothing and come back when they are asked for.

The application counts what it holds at once. No request may fail in any of it.
"""

import concurrent.futures
import json
import resource
import threading
import time

from support import host, images
from support.case import EkidenCase
from support.repeat import Repeat
from support.server import service_request
from support.wait import until

CONCURRENCY, MOST = 4, 5
# Connections, each with one request.
CROWD = 10_000
# What the front door needs for them: those that are worked on have another one each.
DESCRIPTORS = 16_000


class ScalingCase(EkidenCase):

    def configuration(self, name, least, most, concurrency):
        """An auto scaling configuration; the clients' models have no `MinSize` of 0."""
        status, _, answer = self.ekiden.call(
            "AppRunner.CreateAutoScalingConfiguration",
            json.dumps({"AutoScalingConfigurationName": name, "MinSize": least, "MaxSize": most,
                        "MaxConcurrency": concurrency}))
        self.assertEqual(status, 200, answer)
        return answer["AutoScalingConfiguration"]["AutoScalingConfigurationArn"]

    def scaled(self, name, least, most, concurrency, image=None, **more):
        """A service that scales so, when its creation is over."""
        request = service_request(name, image or images.web(), **more)
        request["AutoScalingConfigurationArn"] = self.configuration(name, least, most, concurrency)
        answer = self.ekiden.client().create_service(**request)
        service = answer["Service"]
        self.addCleanup(self.remove, service["ServiceArn"])
        self.succeeds(service["ServiceArn"], answer["OperationId"])
        return service

    def scaling(self, service):
        return self.ekiden.native("DescribeScaling", ServiceArn=service["ServiceArn"])

    def routed(self, service):
        return [i["InstanceId"] for i in self.ekiden.instances(service["ServiceArn"]) if i["Routed"]]

    def living(self, service):
        return len(self.ekiden.living(service["ServiceArn"]))

    def sleeps(self, service):
        """Waits until it has no instance."""
        until("no instance", lambda: self.living(service) == 0, 60,
              lambda: json.dumps(self.scaling(service)))

    def ask(self, service, path="/whoami"):
        status, fields, body = self.ekiden.get(service, path, timeout=60)
        return status, fields, body

    def together(self, service, count, path):
        """So many requests at once, all answered well; the fields of their answers."""
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(lambda _: self.ask(service, path), range(count)))
        bad = [answer for answer in answers if answer[0] != 200]
        self.assertEqual(bad, [])
        return [fields for _, fields, _ in answers]


class Scaling(ScalingCase):
    label = "scale"
    extra = '[service]\nscale_in_delay = "2s"\nidle_to_zero = "2s"\n'

    def test_a_step_of_load_is_carried_by_more_instances_and_each_holds_what_it_may(self):
        service = self.scaled("step", 1, MOST, CONCURRENCY)
        self.together(service, 1, "/slow?ms=50")
        with Steady(self, service, 40) as steady:
            until("the most instances serve", lambda: len(self.routed(service)) == MOST, 120,
                  lambda: json.dumps(self.scaling(service)))
        self.assertEqual(steady.failed, [])
        self.assertGreater(len(steady.held_max), 1)
        self.assertLessEqual(max(steady.held_max.values()), CONCURRENCY)
        with Steady(self, service, 1) as light:
            until("as few as before", lambda: self.living(service) == 1, 120,
                  lambda: json.dumps(self.scaling(service)))
        self.assertEqual(light.failed, [])
        wanted = [decision["Wanted"] for decision in self.scaling(service)["Decisions"]]
        self.assertEqual(max(wanted), MOST)
        print(f"    {steady.count} requests, {len(steady.held_max)} instances", flush=True)

    def test_many_first_requests_wake_one_instance(self):
        service = self.scaled("wake", 0, 3, 200)
        self.sleeps(service)
        fields = self.together(service, 200, "/slow?ms=500")
        self.assertEqual(len({answer["x-instance"] for answer in fields}), 1)
        starts = [d for d in self.scaling(service)["Decisions"] if d["Wanted"] > 1]
        self.assertEqual(starts, [])
        self.sleeps(service)
        self.answers(service)

    def test_ten_thousand_first_requests_are_all_answered_by_as_few_as_are_needed(self):
        if missing := host.missing("h2load"):
            self.skipTest(f"not installed: {', '.join(missing)}")
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if most < DESCRIPTORS:
            self.skipTest(f"a process may have {most} open files, and {DESCRIPTORS} are needed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        service = self.scaled("crowd", 0, 10, 500, memory="4096")
        self.sleeps(service)
        crowd = host.run(
            "h2load", "--h1", "--requests", str(CROWD), "--clients", str(CROWD),
            "--header", f":authority: {service['ServiceUrl']}",
            f"http://127.0.0.1:{self.ekiden.edge_port}/slow?ms=1000")
        self.assertIn(f"{CROWD} succeeded, 0 failed", crowd)
        self.assertIn(f"{CROWD} 2xx", crowd)
        # One is that of the deployment.
        starts = len(self.scaling(service)["Starts"]) - 1
        self.assertLessEqual(starts, 10, json.dumps(self.scaling(service)))
        print(f"    {starts} starts", flush=True)

    def test_a_client_that_leaves_does_not_take_the_start_with_it(self):
        service = self.scaled("leave", 0, 1, 10)
        self.sleeps(service)
        with self.assertRaises(OSError):
            self.ekiden.get(service, "/whoami", timeout=0.01)
        until("it serves", lambda: self.routed(service), 60)

    def test_a_request_waits_for_control_to_come_back(self):
        service = self.scaled("orphan", 0, 1, 10)
        self.sleeps(service)
        control = self.ekiden.pid("control")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            host.kill(control)
            answer = pool.submit(self.ask, service)
            self.assertEqual(answer.result()[0], 200)
        self.ekiden.wait_serves()

    def test_one_that_never_becomes_ready_is_not_started_again_and_again(self):
        # Whole when it is deployed, broken from a moment after that on.
        breaks = int(time.time()) + 30
        command = f"sh -c 'test $(date +%s) -lt {breaks} && exec python3 -u app.py; exit 3'"
        service = self.scaled("broken", 0, MOST, 1, command=command)
        arn = service["ServiceArn"]
        self.ekiden.cli("ingress", "set", "broken", "queue.seconds=4")
        self.sleeps(service)
        until("it is broken", lambda: time.time() > breaks, 60)
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: self.ask(service), range(20)))
        causes = {(status, fields.get("x-ekiden-cause")) for status, fields, _ in answers}
        self.assertEqual(causes, {(503, "no_capacity_in_time")}, answers)
        # The first ends, the second follows at once, and then each waits longer.
        self.assertLess(len(self.ekiden.instances(arn)), 9)
        self.assertIn("fail", self.scaling(service)["Now"]["Reason"])

    def test_a_deployment_under_load_keeps_the_scale(self):
        service = self.scaled("roll", 1, MOST, CONCURRENCY)
        with Steady(self, service, 12) as steady:
            until("three serve", lambda: len(self.routed(service)) >= 3, 120)
            before = set(self.routed(service))
            self.succeeds(service["ServiceArn"],
                          self.update_image(service["ServiceArn"], images.web(2)))
            after = set(self.routed(service))
        self.assertEqual(steady.failed, [])
        self.assertGreaterEqual(len(after), 3)
        self.assertFalse(before & after)
        self.assertLessEqual(max(steady.held_max.values()), CONCURRENCY)

    def resting(self, name, freeze=2, **more):
        """A service of one instance that is throttled after a second, and frozen after two."""
        service = self.scaled(name, 1, 1, 100, **more)
        self.ekiden.cli("scale", name, "--throttle", "1", "--freeze", str(freeze))
        return service

    def comes_to(self, service, activity):
        until(activity, lambda: self.activities(service) == {activity}, 30,
              lambda: json.dumps(self.scaling(service)))

    def activities(self, service):
        return {i["Activity"] for i in self.ekiden.instances(service["ServiceArn"]) if i["Routed"]}

    def test_who_is_asked_for_nothing_rests_and_is_woken_by_a_request(self):
        service = self.resting("rest", freeze=3)
        instance = self.ekiden.whoami(service)["instance"]
        for _ in range(3):
            self.comes_to(service, "throttled")
            self.answers(service)
            self.comes_to(service, "frozen")
            fields = self.together(service, 50, "/slow?ms=100")
            self.assertEqual({answer["x-instance"] for answer in fields}, {instance})
            self.assertEqual(self.activities(service), {"active"})

    def test_a_frozen_instance_is_not_asked_how_it_is(self):
        check = {"Protocol": "HTTP", "Path": "/health", "Interval": 1, "Timeout": 1,
                 "HealthyThreshold": 1, "UnhealthyThreshold": 1}
        service = self.resting("unasked", health=check)
        instance = self.ekiden.whoami(service)["instance"]
        self.comes_to(service, "frozen")
        # A check that it would miss has a second, and one miss is enough.
        time.sleep(4)
        self.assertEqual(self.activities(service), {"frozen"})
        self.assertEqual(self.ekiden.whoami(service)["instance"], instance)

    def test_a_frozen_instance_outlives_the_parts_that_froze_it(self):
        service = self.resting("outlive")
        instance = self.ekiden.whoami(service)["instance"]
        for role in ("control", "agent", "supervisor", "edge"):
            self.comes_to(service, "frozen")
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                host.kill(self.ekiden.pid(role))
                answer = pool.submit(self.ask, service)
                self.assertEqual(answer.result()[0], 200, role)
            self.ekiden.wait_serves()
            self.assertEqual(self.ekiden.whoami(service)["instance"], instance, role)
        self.comes_to(service, "frozen")
        host.kill(self.ekiden.pid("control"))
        self.ekiden.wait_serves()
        self.assertEqual(self.activities(service), {"frozen"})
        self.ekiden.cli("reload")
        self.assertEqual(self.ekiden.whoami(service)["instance"], instance)

    def test_a_frozen_instance_is_woken_to_be_replaced_and_hears_its_signal(self):
        service = self.resting("replace")
        arn = service["ServiceArn"]
        self.comes_to(service, "frozen")
        self.succeeds(arn, self.update_image(arn, images.web(2)))
        self.assertEqual(str(self.ekiden.whoami(service)["revision"]), "2")
        self.comes_to(service, "frozen")
        operation = self.ekiden.client().pause_service(ServiceArn=arn)["OperationId"]
        self.succeeds(arn, operation)
        # They are stored a moment after they were written.
        both = lambda: self.ekiden.logs(arn).count("finished") == 2
        until("both have said it", both, 30, lambda: "\n".join(self.ekiden.logs(arn)))

    def test_some_may_be_kept_awake(self):
        service = self.scaled("awake", 2, 2, 10)
        self.ekiden.cli("scale", "awake", "--throttle", "1", "--active", "1")
        until("one rests", lambda: self.activities(service) == {"active", "throttled"}, 30)

    def test_cpu_in_use_orders_another_instance(self):
        # One request at a time, of an instance that may hold a hundred.
        service = self.scaled("busy", 1, 2, 100, cpu="256")
        self.ekiden.cli("scale", "busy", "--cpu-target", "60")
        with Steady(self, service, 1, "/busy?ms=50") as steady:
            until("two serve", lambda: len(self.routed(service)) == 2, 120,
                  lambda: json.dumps(self.scaling(service)))
        self.assertEqual(steady.failed, [])
        most = max(self.scaling(service)["Decisions"], key=lambda decision: decision["Wanted"])
        self.assertIn("what they use", most["Reason"])
        self.assertGreater(most["CpuPercent"], 60)
        until("one serves", lambda: self.living(service) == 1, 120,
              lambda: json.dumps(self.scaling(service)))

    def test_one_that_dies_on_its_first_request_is_replaced_and_the_next_is_answered(self):
        service = self.scaled("mortal", 0, 2, 10)
        for _ in range(3):
            self.sleeps(service)
            status, fields, _ = self.ask(service, "/crash")
            self.assertEqual((status, fields.get("x-ekiden-cause")), (502, "app_closed_early"))
            # A request that comes while it is still dying may meet it, and dies with it.
            until("the next one answers", lambda: self.ask(service, "/")[0] == 200, 60)

    def test_a_minimum_by_hand_holds_until_it_is_taken_back(self):
        service = self.scaled("manual", 0, 3, 10)
        self.ekiden.cli("scale", "manual=2")
        until("two serve", lambda: len(self.routed(service)) == 2, 60)
        shown = self.ekiden.cli("scale", "manual")
        self.assertIn("2 wanted", shown)
        self.assertIn("the minimum", shown)
        self.ekiden.cli("scale", "manual=")
        self.sleeps(service)
        refused = self.ekiden.cli("scale", "manual=many", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("`many`", refused.stderr)


class SmallHost(ScalingCase):
    """A network of few places: what grows leaves room for the others."""

    label = "small"
    prefix = 28

    def test_who_asks_for_more_than_there_is_waits_and_others_keep_their_minimum(self):
        greedy = self.scaled("greedy", 1, 25, 1)
        with Steady(self, greedy, 25, "/slow?ms=200") as steady:
            until("no place is left for it", lambda: "Refused" in self.scaling(greedy), 120,
                  lambda: json.dumps(self.scaling(greedy)))
            self.assertIn("places for instances are taken", self.scaling(greedy)["Refused"])
            self.assertIn("kept for services", self.ekiden.cli("scale", "greedy"))
            modest = self.scaled("modest", 1, 1, 10)
            self.answers(modest)
        self.assertEqual(steady.failed, [])
        self.assertLessEqual(max(steady.held_max.values()), 1)


class LittleMemory(ScalingCase):
    """A host that keeps all of its memory free starts nothing, and says why."""

    label = "lean"
    extra = '[host]\nmemory_reserve = "1024TiB"\n'

    def test_nothing_is_started_without_memory_and_the_wait_is_over_when_there_is_some(self):
        created = self.ekiden.client().create_service(**service_request("lean", images.web()))
        arn = created["Service"]["ServiceArn"]
        self.addCleanup(self.remove, arn)
        until("it is refused", lambda: "MiB of memory left" in self.ekiden.cli("describe", "lean"), 60)
        self.ekiden.write_config('[host]\nmemory_reserve = "0MiB"\n')
        self.ekiden.cli("reload")
        self.succeeds(arn, created["OperationId"])


class Steady(Repeat):
    """So many clients that ask again as soon as they are answered."""

    def __init__(self, case, service, clients, path="/slow?ms=200"):
        super().__init__(self.once, clients)
        self.case, self.service, self.path = case, service, path
        self.failed, self.held_max, self.count = [], {}, 0
        self.lock = threading.Lock()

    def once(self):
        try:
            status, fields, body = self.case.ask(self.service, self.path)
        except OSError as error:
            status, fields, body = 0, {}, repr(error)
        with self.lock:
            self.count += 1
            if status != 200:
                self.failed.append((status, fields, body))
                return
            instance, held = fields["x-instance"], int(fields["x-held-max"])
            self.held_max[instance] = max(held, self.held_max.get(instance, 0))
