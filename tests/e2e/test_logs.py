"""Logs as people see them: through `aws logs tail`, boto3, `ekiden logs`, whatever an application
writes, and whatever dies meanwhile."""

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import threading
import time
import unittest

from support import host, images, settings
from support.aws import Aws
from support.case import EkidenCase
from support.wait import until

# A line that is counted, about a hundred a second.
COUNTING = ("httpd -p 8080 -h /www; i=0; "
            "while true; do i=$((i+1)); echo line $i; sleep 0.01; done")
COUNTING_FAST = ("httpd -p 8080 -h /www; i=0; while true; do "
                 "for k in 1 2 3 4 5 6 7 8 9 10; do i=$((i+1)); echo line $i; done; sleep 0.01; done")
ROLES = ("control", "agent", "supervisor", "edge", "shim")
ODD = ("httpd -p 8080 -h /www; "
       r"printf 'ansi \033[31mred\033[0m\n'; printf 'bad \377\376 bytes\n'; printf 'nul \000 byte\n'; "
       r"printf '  spaces \t \n'; " 'echo \'{"level": "error", "status": 503}\'; '
       "printf 'not yet'; sleep 3; echo ' a line'; echo last; sleep 100000")
LONG = ("httpd -p 8080 -h /www; dd if=/dev/zero bs=1024 count=10240 2>/dev/null | tr '\\000' x; "
        "while true; do sleep 1; echo; echo last; done")
FLOOD = ("httpd -p 8080 -h /www; yes 'a line of a flood that nobody wants to read' | "
         "head -n 5000000; while true; do echo flood over; sleep 1; done")
SECONDS = 1000


def tailing():
    """An `aws` of version 2, if there is one."""
    # Debian's, which others of that name may hide.
    for path in (os.environ.get("EKIDEN_E2E_AWS2"), shutil.which("aws"), "/usr/bin/aws"):
        if path is None or not os.path.exists(path):
            continue
        said = subprocess.run([path, "--version"], capture_output=True, text=True)
        if said.stdout.startswith("aws-cli/2"):
            return path
    return None


TAILING = tailing()


def run(name, script):
    """An image whose command is a script."""
    return images.tiny(f"logs-{name}", ("sh", "-c", script))


class Logs(EkidenCase):
    label = "logs"

    @classmethod
    def setUpClass(cls):
        cls.start_ekiden()
        cls.logs = cls.ekiden.client("logs")

    # ---- what services write

    def group(self, service, kind="application"):
        return f"/aws/apprunner/{service['ServiceName']}/{service['ServiceId']}/{kind}"

    def lines(self, group, stream=None):
        """All events, page by page until the token stays the same."""
        stream = stream or self.only_stream(group)
        token, lines = {}, []
        while True:
            page = self.logs.get_log_events(
                logGroupName=group, logStreamName=stream, startFromHead=True, **token)
            lines += page["events"]
            if token.get("nextToken") == page["nextForwardToken"]:
                return [event["message"] for event in lines]
            token = {"nextToken": page["nextForwardToken"]}

    def only_stream(self, group):
        def found():
            with contextlib.suppress(self.logs.exceptions.ResourceNotFoundException):
                return self.logs.describe_log_streams(logGroupName=group)["logStreams"]
        streams = until("a stream is there", found)
        self.assertEqual(len(streams), 1, streams)
        return streams[0]["logStreamName"]

    def test_groups_and_streams_have_app_runners_names_and_texts(self):
        service = self.running("named", images.tiny())
        group = self.group(service, "service")
        events = until("the service is said to run", lambda: [
            line for line in self.lines(group, "events") if "RUNNING" in line] and
            self.lines(group, "events"))
        for line in events:
            self.assertTrue(line.startswith("[AppRunner] "), line)
        self.assertIn("[AppRunner] Service status is set to RUNNING.", events)
        self.assertTrue(any("creation started" in line for line in events), events)
        streams = self.logs.describe_log_streams(logGroupName=group)["logStreams"]
        names = [stream["logStreamName"] for stream in streams]
        self.assertTrue(any(re.fullmatch("deployment/[0-9a-f]{32}", name) for name in names), names)
        shown = self.ekiden.cli("logs", "named", "--service")
        self.assertIn("events | [AppRunner] Service status is set to RUNNING.", shown)

    def test_odd_output_is_kept(self):
        service = self.running("oddity", run("odd", ODD))
        group = self.group(service)
        until("the last line is there", lambda: "last" in self.safe_lines(group), 120)
        lines = self.lines(group)
        for line in ("ansi \x1b[31mred\x1b[0m", "bad \ufffd\ufffd bytes", "nul \x00 byte",
                     "  spaces \t ", '{"level": "error", "status": 503}'):
            self.assertIn(line, lines)
        self.assertEqual("".join(lines[-3:])[-len("not yet a linelast"):], "not yet a linelast")
        found = self.logs.filter_log_events(logGroupName=group, filterPattern="{ $.status >= 500 }")
        self.assertEqual([event["message"] for event in found["events"]],
                         ['{"level": "error", "status": 503}'])
        # None of it reaches a terminal.
        shown = self.ekiden.cli("logs", "oddity", "--since", "1h", "--grep", "ansi")
        self.assertNotIn("\x1b", shown)

    def test_a_line_of_ten_megabytes_comes_in_pieces(self):
        service = self.running("long-line", run("long", LONG))
        group = self.group(service)
        until("the last line is there", lambda: "last" in self.safe_lines(group), 120)
        lines = self.lines(group)
        kept = sum(len(line) for line in lines if line.strip("x") == "")
        marks = [line for line in lines if line.startswith("[Ekiden] ")]
        self.assertTrue(kept == 10 << 20 or marks, (kept, marks))

    def safe_lines(self, group):
        with contextlib.suppress(self.logs.exceptions.ResourceNotFoundException):
            return self.lines(group, self.only_stream(group))
        return []

    def test_a_flood_does_not_block_its_application_and_is_marked(self):
        began = time.monotonic()
        service = self.running("flood", run("flood", FLOOD))
        group = self.group(service)

        def over():
            time.sleep(0.5)
            with contextlib.suppress(self.logs.exceptions.ResourceNotFoundException):
                return self.logs.filter_log_events(
                    logGroupName=group, filterPattern='"flood over"')["events"]
        until("the flood is over", over, 120)
        print(f"    5,000,000 lines were written within {time.monotonic() - began:.1f} s", flush=True)
        marks = self.logs.filter_log_events(logGroupName=group, filterPattern='"[Ekiden]"')["events"]
        self.assertTrue(marks)
        print(f"    {marks[0]['message']}", flush=True)

    def test_killing_roles_loses_and_doubles_no_line(self):
        """Each role is killed again and again while lines come; those of an instance stay in their order."""
        service = self.running("kill-roles", run("counting-fast", COUNTING_FAST))
        group = self.group(service)
        until("it counts", lambda: len(self.safe_lines(group)) > 20)
        seed = settings.LOG_SEED or random.getrandbits(32)
        print(f"    seed {seed}", flush=True)
        randomly = random.Random(seed)
        rounds = -(-settings.LOG_KILLS // len(ROLES))
        victims = [role for _ in range(rounds) for role in randomly.sample(ROLES, len(ROLES))]
        for role in victims:
            time.sleep(randomly.uniform(0, 1.5))
            self.kill(role, service)
        last = self.newest(group)
        until("it still counts", lambda: self.newest(group) > last, 60, self.ekiden.tail)
        streams = [s["logStreamName"] for page in self.logs.get_paginator("describe_log_streams").paginate(
            logGroupName=group) for s in page["logStreams"]]
        # The end of a shim is that of its instance.
        self.assertGreater(len(streams), 1)
        count = 0
        for stream in streams:
            lines = self.lines(group, stream)
            numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
            self.assertEqual(numbers, list(range(1, len(numbers) + 1)), stream)
            self.assertEqual(len(lines), len(numbers), [l for l in lines if not l.startswith("line ")])
            count += len(numbers)
        print(f"    {len(victims)} kills; {count} lines of {len(streams)} instances", flush=True)

    def newest(self, group):
        streams = self.logs.describe_log_streams(logGroupName=group, orderBy="LastEventTime", descending=True)
        return streams["logStreams"][0]["lastEventTimestamp"]

    def kill(self, role, service):
        def shims():
            own = {i["InstanceId"] for i in self.ekiden.living(service["ServiceArn"]) if i["Status"] == "RUNNING"}
            return [pid for instance, pid in self.ekiden.shims().items() if instance in own]

        if role == "shim":
            host.kill(until("an instance runs", shims, 60, self.ekiden.tail)[0])
            return
        pid = self.ekiden.pid(role)
        host.kill(pid)
        until(f"another {role}", lambda: self.ekiden.pid(role) not in (None, pid), 60, self.ekiden.tail)
        self.ekiden.wait_serves()

    # ---- clients

    @unittest.skipUnless(TAILING, "no aws command line of version 2, which alone has `logs tail`; "
                         "EKIDEN_E2E_AWS2 names one")
    def test_aws_logs_tail_follows(self):
        service = self.running("tail", run("counting", COUNTING))
        group = self.group(service)
        until("it counts", lambda: self.safe_lines(group))
        aws = Aws(self.ekiden)
        tail = subprocess.Popen(
            [TAILING, "--endpoint-url", self.ekiden.endpoint, "logs", "tail", group, "--follow", "--since", "5m", "--filter-pattern", "line -13",
             "--format", "short"], env=aws.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        seen = []
        reader = threading.Thread(target=lambda: seen.extend(iter(tail.stdout.readline, "")))
        reader.start()
        try:
            time.sleep(12)
            so_far = len(seen)
            until("more lines come", lambda: len(seen) > so_far + 20, 60, lambda: "".join(seen[-5:]))
        finally:
            tail.terminate()
            reader.join()
        numbers = [int(line.split()[-1]) for line in seen if " line " in line]
        self.assertGreater(len(numbers), 100)
        self.assertEqual(numbers, [n for n in range(1, numbers[-1] + 1) if "13" not in str(n)])

    def test_ekiden_logs_follows_at_once(self):
        service = self.running("at-once", run("counting", COUNTING))
        until("it counts", lambda: self.safe_lines(self.group(service)))
        done = subprocess.Popen(
            [settings.BINARY, "logs", "at-once", "-f", "-n", "1", "--output", "json", "--grep", "line",
             "--config", self.ekiden.config], env=host.environment(), stdout=subprocess.PIPE, text=True)
        late, numbers = [], []
        try:
            for line in iter(done.stdout.readline, ""):
                line = json.loads(line)
                late.append(time.time() * 1000 - line["Timestamp"])
                numbers.append(int(line["Text"].split()[1]))
                if len(numbers) > 500:
                    break
        finally:
            done.terminate()
            done.wait()
            done.stdout.close()
        self.assertEqual(numbers, list(range(numbers[0], numbers[-1] + 1)))
        late.sort()
        print(f"    lines came after {late[len(late) // 2]:.0f} ms (median), "
              f"{late[-1]:.0f} ms (last)", flush=True)
        self.assertLess(late[len(late) // 2], 1000)
        short = self.ekiden.cli("logs", "at-once", "-n", "3").splitlines()
        self.assertEqual(len(short), 3)
        self.assertRegex(short[0], r"^\S+Z [0-9a-f]{8} \| line \d+$")
        self.assertEqual(self.ekiden.cli("logs", "at-once", "--until", "1970-01-02").strip(), "")

    def test_every_operation_with_boto3(self):
        logs, name = self.logs, "boto/every.thing-1"
        logs.create_log_group(logGroupName=name, tags={"a": "1"})
        self.addCleanup(logs.delete_log_group, logGroupName=name)
        with self.assertRaises(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=name)
        logs.put_retention_policy(logGroupName=name, retentionInDays=7)
        found = logs.describe_log_groups(logGroupNamePrefix="boto/")["logGroups"]
        self.assertEqual([(g["logGroupName"], g["retentionInDays"]) for g in found], [(name, 7)])
        arn = found[0]["logGroupArn"]
        self.assertEqual(found[0]["arn"], f"{arn}:*")
        logs.delete_retention_policy(logGroupName=name)
        self.assertEqual(logs.list_log_groups(logGroupNamePattern="^boto")["logGroups"][0]["logGroupArn"], arn)
        logs.tag_resource(resourceArn=arn, tags={"b": "2"})
        logs.tag_log_group(logGroupName=name, tags={"c": "3"})
        logs.untag_resource(resourceArn=arn, tagKeys=["a"])
        logs.untag_log_group(logGroupName=name, tags=["b"])
        self.assertEqual(logs.list_tags_for_resource(resourceArn=arn)["tags"], {"c": "3"})
        self.assertEqual(logs.list_tags_log_group(logGroupName=name)["tags"], {"c": "3"})
        logs.associate_kms_key(logGroupName=name, kmsKeyId="arn:aws:kms:us-east-1:1:key/k")
        logs.disassociate_kms_key(logGroupName=name)
        for stream in "one", "two":
            logs.create_log_stream(logGroupName=name, logStreamName=stream)
        now = int(time.time() * SECONDS)
        events = [{"timestamp": now + n, "message": f"event {n} \x1b[1m\n"} for n in range(50)]
        logs.put_log_events(logGroupName=name, logStreamName="one", logEvents=events)
        answer = logs.put_log_events(logGroupName=name, logStreamName="two", logEvents=[
            {"timestamp": 0, "message": "too old"}, ])
        self.assertEqual(answer["rejectedLogEventsInfo"], {"tooOldLogEventEndIndex": 1})
        got = logs.get_log_events(logGroupName=name, logStreamName="one", startFromHead=True)
        self.assertEqual([e["message"] for e in got["events"]], [e["message"] for e in events])
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=name, filterPattern="event", PaginationConfig={"PageSize": 7})
        self.assertEqual([e["message"] for page in pages for e in page["events"]],
                         [e["message"] for e in events])
        streams = logs.describe_log_streams(logGroupName=name, orderBy="LastEventTime", descending=True)
        self.assertEqual([s["logStreamName"] for s in streams["logStreams"]], ["one", "two"])
        self.assertEqual(logs.describe_subscription_filters(logGroupName=name)["subscriptionFilters"], [])
        self.assertEqual(len(logs.test_metric_filter(
            filterPattern="b", logEventMessages=["a", "b"])["matches"]), 1)
        query = logs.start_query(logGroupName=name, startTime=now // SECONDS - 60,
                                 endTime=now // SECONDS + 60, queryString="stats count(*) as n")["queryId"]
        until("the query is complete",
              lambda: logs.get_query_results(queryId=query)["status"] == "Complete")
        self.assertEqual(logs.get_query_results(queryId=query)["results"],
                         [[{"field": "n", "value": "50"}]])
        self.assertIn(query, [q["queryId"] for q in logs.describe_queries()["queries"]])
        with self.assertRaises(logs.exceptions.InvalidParameterException):
            logs.stop_query(queryId=query)
        with self.assertRaises(logs.exceptions.MalformedQueryException):
            logs.start_query(logGroupName=name, startTime=0, endTime=1, queryString="nonsense |")
        logs.delete_log_stream(logGroupName=name, logStreamName="two")
        with self.assertRaises(logs.exceptions.ResourceNotFoundException) as refused:
            logs.get_log_events(logGroupName=name, logStreamName="two")
        self.assertIn("The specified log stream does not exist.", str(refused.exception))


if __name__ == "__main__":
    unittest.main()
