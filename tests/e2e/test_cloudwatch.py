"""CloudWatch's metrics and alarms as its clients use them: `aws cloudwatch`, boto3 and Terraform.

`AppRunnerMetrics` compares App Runner's metrics with a load whose every request is known.
"""

import concurrent.futures
import datetime
import json
import math
import pathlib
import shutil
import time
import unittest

import botocore.exceptions

from support import host, images, terraform
from support.aws import Aws, Failed
from support.case import EkidenCase
from support.wait import until

HERE = pathlib.Path(__file__).resolve().parent
NAMESPACE = "AWS/AppRunner"
MINUTE = 60
# How long after its end a minute's metrics are waited for.
RECORDED_SECONDS = 30
# How long after its end a minute's alarms are waited for.
EVALUATED_SECONDS = 40
# What percentiles may be off.
RELATIVE = 0.01


def this_minute():
    return int(time.time()) // MINUTE * MINUTE


def at(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def stamp(seconds):
    return at(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(when):
    """Of a time as `aws` prints it: version 1 a number, version 2 ISO 8601."""
    if isinstance(when, str):
        return int(datetime.datetime.fromisoformat(when).timestamp())
    return int(when)


def percentile(values, percent):
    """The value that so many of a hundred are not above."""
    rank = max(math.ceil(len(values) * percent / 100), 1)
    return sorted(values)[rank - 1]


class CloudWatchCase(EkidenCase):

    @classmethod
    def setUpClass(cls):
        cls.start_ekiden()
        cls.boto = cls.ekiden.client("cloudwatch")
        if shutil.which("aws"):
            cls.aws = Aws(cls.ekiden)

    def cloudwatch(self, operation, *arguments, **flags):
        if not shutil.which("aws"):
            self.skipTest("the aws command line is not installed")
        return self.aws("cloudwatch", operation, *arguments, **flags)

    def alarm(self, name):
        found = self.boto.describe_alarms(AlarmNames=[name])["MetricAlarms"]
        return found[0] if found else None

    def becomes(self, name, state):
        """Waits for the next evaluation after the running minute's end."""
        alarm = until(f"{name} is {state}", lambda: self.is_in(name, state),
                      MINUTE + EVALUATED_SECONDS, lambda: str(self.alarm(name)))
        return alarm["StateReason"]

    def is_in(self, name, state):
        alarm = self.alarm(name)
        return alarm if alarm["StateValue"] == state else None


class Metrics(CloudWatchCase):
    label = "cw"

    def test_what_the_command_puts_it_lists_and_reads(self):
        """Of the values 1 to 100, each once, and 1000 ten times."""
        minute = this_minute() - 5 * MINUTE
        dimensions = ["Name=Till,Value=7", "Name=Shop,Value=a b"]
        value = {"MetricName": "Price", "Unit": "Count", "Timestamp": stamp(minute + 17),
                 "Dimensions": [{"Name": "Till", "Value": "7"}, {"Name": "Shop", "Value": "a b"}]}
        data = [{**value, "Values": list(range(1, 101))},
                {**value, "Values": [1000], "Counts": [10], "Timestamp": stamp(minute + 59)},
                {**value, "Value": 42, "Timestamp": stamp(minute + 60)},
                {**value, "Timestamp": stamp(minute + 120), "StatisticValues": {
                    "SampleCount": 4, "Sum": 10, "Minimum": 1, "Maximum": 4}}]
        self.cloudwatch("put-metric-data", namespace="Command", metric_data=data)
        # As scripts do: one value, by flags.
        self.cloudwatch("put-metric-data", "--dimensions", "Till=8", namespace="Command",
                        metric_name="Price", value="3.5", unit="Count", timestamp=stamp(minute))

        listed = self.cloudwatch("list-metrics", namespace="Command")["Metrics"]
        self.assertEqual({len(metric["Dimensions"]) for metric in listed}, {1, 2})
        listed = self.cloudwatch("list-metrics", "--dimensions", "Name=Till,Value=8",
                                 "--recently-active", "PT3H", metric_name="Price")["Metrics"]
        self.assertEqual(listed, [{"Namespace": "Command", "MetricName": "Price",
                                   "Dimensions": [{"Name": "Till", "Value": "8"}]}])

        query = ("get-metric-statistics", "--namespace", "Command", "--metric-name", "Price",
                 "--start-time", stamp(minute), "--end-time", stamp(minute + 5 * MINUTE),
                 "--period", "60", "--dimensions", *dimensions)
        found = self.cloudwatch(*query, "--statistics", "SampleCount", "Average", "Sum", "Minimum",
                                "Maximum")
        self.assertEqual(found["Label"], "Price")
        points = {seconds_of(p.pop("Timestamp")): p for p in found["Datapoints"]}
        self.assertEqual(points, {
            minute: {"SampleCount": 110.0, "Sum": 15050.0, "Average": 15050 / 110, "Minimum": 1.0,
                     "Maximum": 1000.0, "Unit": "Count"},
            minute + 60: {"SampleCount": 1.0, "Sum": 42.0, "Average": 42.0, "Minimum": 42.0,
                          "Maximum": 42.0, "Unit": "Count"},
            minute + 120: {"SampleCount": 4.0, "Sum": 10.0, "Average": 2.5, "Minimum": 1.0,
                           "Maximum": 4.0, "Unit": "Count"}})
        found = self.cloudwatch(*query, "--extended-statistics", "p50", "p90", "p95")
        first = next(p for p in found["Datapoints"] if seconds_of(p["Timestamp"]) == minute)
        for name, wanted in (("p50", 55), ("p90", 99), ("p95", 1000)):
            self.assertAlmostEqual(first["ExtendedStatistics"][name], wanted, delta=wanted * RELATIVE)

    def test_many_values_have_percentiles_within_one_percent(self):
        minute = this_minute() - 10 * MINUTE
        values = [1.0005 ** n for n in range(20_000)]
        put = [{"MetricName": "Many", "Timestamp": at(minute), "Values": values[n:n + 150]}
               for n in range(0, len(values), 150)]
        for n in range(0, len(put), 100):
            self.boto.put_metric_data(Namespace="Shop", MetricData=put[n:n + 100])
        stats = [f"p{percent}" for percent in (1, 10, 25, 50, 75, 90, 99, 99.9)]
        answer = self.boto.get_metric_statistics(
            Namespace="Shop", MetricName="Many", StartTime=at(minute), EndTime=at(minute + MINUTE),
            Period=60, ExtendedStatistics=stats)
        found = answer["Datapoints"][0]["ExtendedStatistics"]
        for stat in stats:
            wanted = percentile(values, float(stat[1:]))
            self.assertAlmostEqual(found[stat], wanted, delta=wanted * RELATIVE, msg=stat)

    def test_metric_data_in_pages_with_expressions_and_labels(self):
        start = this_minute() - 30 * MINUTE
        times = [start + n * MINUTE for n in range(10)]
        for till in (1, 2):
            self.boto.put_metric_data(Namespace="Pages", MetricData=[
                {"MetricName": "Orders", "Dimensions": [{"Name": "Till", "Value": str(till)}],
                 "Timestamp": at(when), "Value": till * n} for n, when in enumerate(times)])

        def orders(till):
            return {"Metric": {"Namespace": "Pages", "MetricName": "Orders",
                               "Dimensions": [{"Name": "Till", "Value": str(till)}]},
                    "Period": 60, "Stat": "Sum"}

        queries = [
            {"Id": "a", "MetricStat": orders(1), "Label": "till ${PROP('Dim.Till')} (${MAX})"},
            {"Id": "b", "MetricStat": orders(2), "ReturnData": False},
            {"Id": "both", "Expression": "a + b", "Label": "both"},
        ]
        window = {"StartTime": at(start), "EndTime": at(start + 30 * MINUTE)}
        pages = self.boto.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries, ScanBy="TimestampAscending", MaxDatapoints=7, **window)
        found, count = {}, 0
        for page in pages:
            count += 1
            for result in page["MetricDataResults"]:
                found.setdefault(result["Id"], []).extend(
                    zip([int(t.timestamp()) for t in result["Timestamps"]], result["Values"]))
        self.assertEqual(count, 3)
        self.assertEqual(found, {"a": [(when, float(n)) for n, when in enumerate(times)],
                                 "both": [(when, 3.0 * n) for n, when in enumerate(times)]})
        answer = self.cloudwatch(
            "get-metric-data", metric_data_queries=queries, start_time=stamp(start),
            end_time=stamp(start + 30 * MINUTE))
        first, second = answer["MetricDataResults"]
        self.assertEqual((first["Label"], second["Label"]), ("till 1 (9)", "both"))
        self.assertEqual(first["Values"], [float(n) for n in reversed(range(10))])
        self.assertEqual(first["StatusCode"], "Complete")

    def test_what_cannot_be_put_is_refused_by_clients_names(self):
        def refused(code, **request):
            with self.assertRaises(botocore.exceptions.ClientError) as caught:
                self.boto.put_metric_data(**request)
            self.assertEqual(caught.exception.response["Error"]["Code"], code)
            return caught.exception

        one = {"MetricName": "m", "Value": 1}
        error = refused("InvalidParameterValue", Namespace="AWS/AppRunner", MetricData=[one])
        self.assertIn("Namespace is invalid", str(error))
        refused("InvalidParameterCombination", Namespace="Shop",
                MetricData=[{**one, "Values": [1]}])
        refused("MissingParameter", Namespace="Shop", MetricData=[{"MetricName": "m"}])
        with self.assertRaises(self.boto.exceptions.InvalidParameterValueException):
            self.boto.put_metric_data(Namespace="Shop", MetricData=[
                {**one, "Timestamp": at(time.time() - 15 * 86400)}])
        with self.assertRaises(Failed) as caught:
            self.cloudwatch("put-metric-data", namespace="Shop", metric_name="m", value="NaN")
        self.assertIn(caught.exception.status, (254, 255))

    def test_an_alarm_flips_with_its_metric(self):
        name = "orders"
        self.boto.put_metric_alarm(
            AlarmName=name, Namespace="Flips", MetricName="Orders", Statistic="Sum", Period=60,
            EvaluationPeriods=1, Threshold=10, ComparisonOperator="GreaterThanThreshold",
            TreatMissingData="notBreaching")
        self.addCleanup(self.boto.delete_alarms, AlarmNames=[name])
        self.becomes(name, "OK")
        self.boto.put_metric_data(Namespace="Flips",
                                  MetricData=[{"MetricName": "Orders", "Value": 10.5}])
        reason = self.becomes(name, "ALARM")
        self.assertRegex(reason, r"^Threshold Crossed: 1 out of the last 1 datapoints \[10\.5 \(.*\)\] "
                                 r"was greater than the threshold \(10\.0\)")
        # The datapoint grows old: nothing comes after it.
        until("OK again", lambda: self.is_in(name, "OK"), 5 * MINUTE, lambda: str(self.alarm(name)))
        self.cloudwatch("set-alarm-state", alarm_name=name, state_value="ALARM", state_reason="a test")
        self.assertEqual(self.alarm(name)["StateReason"], "a test")
        found = self.cloudwatch("describe-alarms-for-metric", namespace="Flips", metric_name="Orders")
        self.assertEqual([alarm["AlarmName"] for alarm in found["MetricAlarms"]], [name])
        # It is evaluated again, whatever somebody said.
        self.becomes(name, "OK")


class Terraform(CloudWatchCase):
    label = "cwtf"

    @classmethod
    def setUpClass(cls):
        if lacking := terraform.lacking():
            raise unittest.SkipTest(
                f"TERRAFORM IS NOT TESTED HERE; not installed: {' and '.join(lacking)}")
        super().setUpClass()

    def test_alarms_logs_and_rules_from_apply_to_destroy(self):
        variables = json.loads(self.ekiden.cli("env", "--output", "json"))
        environment = host.environment() | variables | {"HOME": str(self.ekiden.base)}
        run = terraform.Terraform(
            HERE / "terraform/cloudwatch", self.ekiden.base / "cloudwatch", environment)
        run.variables(endpoint=self.ekiden.endpoint, service={"name": "web", "id": "0" * 32})
        run.apply()
        self.assertEqual(run.changes(), "")
        failures = self.alarm("failures")
        self.assertEqual((failures["Threshold"], failures["DatapointsToAlarm"]), (0.1, 2))
        self.assertEqual({d["Name"] for d in failures["Dimensions"]}, {"ServiceName", "ServiceID"})
        run.variables(phase=2)
        said = run.apply()
        self.assertIn("0 added, 3 changed, 0 destroyed", said)
        self.assertEqual(run.changes(), "")
        self.assertEqual(self.alarm("failures")["Threshold"], 5.0)
        tags = self.boto.list_tags_for_resource(ResourceARN=failures["AlarmArn"])["Tags"]
        self.assertEqual({tag["Key"]: tag["Value"] for tag in tags}, {"team": "shop", "phase": "2"})
        logs, events = self.ekiden.client("logs"), self.ekiden.client("events")
        group = logs.describe_log_groups(logGroupNamePrefix="/aws/events/")["logGroups"][0]
        self.assertEqual(group["retentionInDays"], 30)
        # What it all is for: an alarm is told.
        self.boto.set_alarm_state(AlarmName="failures", StateValue="OK", StateReason="a test")
        self.boto.set_alarm_state(AlarmName="failures", StateValue="ALARM", StateReason="another")
        told = until("the alarm is told", lambda: logs.filter_log_events(
            logGroupName=group["logGroupName"], filterPattern="{ $.detail.state.value = ALARM }")["events"], 30,
            self.ekiden.tail)
        event = json.loads(told[0]["message"])
        self.assertEqual((event["detail-type"], event["detail"]["state"]["reason"]),
                         ("CloudWatch Alarm State Change", "another"))
        run.destroy()
        self.assertEqual(self.boto.describe_alarms()["MetricAlarms"], [])
        self.assertEqual(events.list_rules()["Rules"], [])
        self.assertEqual(logs.describe_log_groups(logGroupNamePrefix="/aws/events/")["logGroups"], [])


class AppRunnerMetrics(CloudWatchCase):
    """One load within one minute, and what each metric says of that minute."""

    label = "cwar"

    TOGETHER = 8
    BUSY_MS = 12_000

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        images.web()

    def test_every_metric_says_what_the_load_was(self):
        service = self.running("measured", cpu="1 vCPU", memory="2 GB")
        instance = self.ekiden.living(service["ServiceArn"])[0]["InstanceId"]
        # The load has the most of a minute.
        until("a minute begins", lambda: time.time() % MINUTE < 3, MINUTE + 5)
        minute = this_minute()
        cpu_before = self.cpu_micros(instance)
        began = time.time()
        wanted = self.load(service)
        loaded_seconds = time.time() - began
        memory = self.memory_bytes(instance)
        self.assertLess(time.time(), minute + MINUTE - 2, "the load took longer than its minute")
        until("the minute's end", lambda: time.time() >= minute + MINUTE, MINUTE + 5)
        cpu_micros = self.cpu_micros(instance) - cpu_before
        until("the minute is recorded", lambda: self.sum("Requests", service, minute) is not None,
              RECORDED_SECONDS, self.ekiden.tail)

        logged = self.logged(service)
        self.assertEqual(len(logged), sum(wanted.values()))
        for name, count in (("Requests", sum(wanted.values())), ("2xxStatusResponses", wanted[2]),
                            ("4xxStatusResponses", wanted[4]), ("5xxStatusResponses", wanted[5])):
            self.assertEqual(self.sum(name, service, minute), count, name)
        self.latencies(service, minute, [line["total_us"] / 1000 for line in logged])

        found = self.statistics("Concurrency", service, minute)
        self.assertEqual(found["Maximum"], self.TOGETHER)
        found = self.statistics("ActiveInstances", service, minute)
        # Before its first request it was idle, and so not active. It is looked at every two seconds.
        self.assertEqual(found["Maximum"], 1.0)
        self.assertGreater(found["Average"] * MINUTE, loaded_seconds - 3 * 2)
        self.assertEqual(found["Unit"], "Count")

        percent = cpu_micros / (MINUTE * 1_000_000) * 100
        used = memory / (2 << 30) * 100
        for dimensions in ({}, {"Instance": instance}):
            found = self.statistics("CPUUtilization", service, minute, **dimensions)
            print(f"    CPU {found['Average']:.2f} %, by the control group {percent:.2f} %", flush=True)
            self.assertAlmostEqual(found["Average"], percent, delta=max(2, percent * 0.15))
            self.assertEqual(found["Unit"], "Percent")
            found = self.statistics("MemoryUtilization", service, minute, **dimensions)
            print(f"    memory {found['Average']:.3f} %, by the control group {used:.3f} %", flush=True)
            self.assertAlmostEqual(found["Maximum"], used, delta=used * 0.25)

        listed = self.boto.list_metrics(Namespace=NAMESPACE, Dimensions=[
            {"Name": "ServiceID", "Value": service["ServiceId"]}])["Metrics"]
        names = {(m["MetricName"], len(m["Dimensions"])) for m in listed}
        self.assertEqual(names, {
            ("Requests", 2), ("2xxStatusResponses", 2), ("4xxStatusResponses", 2),
            ("5xxStatusResponses", 2), ("RequestLatency", 2), ("Concurrency", 2),
            ("ActiveInstances", 2), ("CPUUtilization", 2), ("CPUUtilization", 3),
            ("MemoryUtilization", 2), ("MemoryUtilization", 3)})

    def load(self, service):
        """Requests one after another and then some together; how many had a status of each hundred."""
        counts = {2: 0, 4: 0, 5: 0}

        def ask(path, times=1):
            for _ in range(times):
                status, _, _ = self.ekiden.get(service, path, timeout=60)
                counts[status // 100] += 1

        for milliseconds in range(1, 101):
            ask(f"/slow?ms={milliseconds}")
        ask("/nothing", 7)
        ask("/health/fail")
        ask("/health", 5)
        ask("/health/ok")
        ask(f"/busy?ms={self.BUSY_MS}")
        with concurrent.futures.ThreadPoolExecutor(self.TOGETHER) as pool:
            paths = ["/slow?ms=3000"] * self.TOGETHER
            answers = pool.map(lambda path: self.ekiden.get(service, path)[0], paths)
            counts[2] += list(answers).count(200)
        self.assertEqual(counts, {2: 103 + self.TOGETHER, 4: 7, 5: 5})
        return counts

    def logged(self, service):
        """The requests as the front door saw them."""
        text = (self.ekiden.data / "edge/access.log").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        return [line for line in lines if line.get("service_id") == service["ServiceId"]]

    def latencies(self, service, minute, milliseconds):
        found = self.statistics("RequestLatency", service, minute)
        self.assertEqual(found["Unit"], "Milliseconds")
        self.assertEqual(found["SampleCount"], len(milliseconds))
        mean = sum(milliseconds) / len(milliseconds)
        # Each was measured a moment before its line was written.
        self.assertAlmostEqual(found["Average"], mean, delta=mean * 0.001 + 0.1)
        stats = ["p50", "p90", "p99"]
        answer = self.boto.get_metric_statistics(
            Namespace=NAMESPACE, MetricName="RequestLatency", Dimensions=self.dimensions(service),
            StartTime=at(minute), EndTime=at(minute + MINUTE), Period=60, ExtendedStatistics=stats)
        extended = answer["Datapoints"][0]["ExtendedStatistics"]
        data = self.boto.get_metric_data(
            StartTime=at(minute), EndTime=at(minute + MINUTE), MetricDataQueries=[
                {"Id": stat, "MetricStat": {
                    "Metric": {"Namespace": NAMESPACE, "MetricName": "RequestLatency",
                               "Dimensions": self.dimensions(service)},
                    "Period": 60, "Stat": stat}} for stat in stats])["MetricDataResults"]
        for stat, result in zip(stats, data):
            wanted = percentile(milliseconds, float(stat[1:]))
            print(f"    {stat} {extended[stat]:.2f} ms, by the access log {wanted:.2f} ms", flush=True)
            self.assertAlmostEqual(extended[stat], wanted, delta=wanted * RELATIVE + 0.1)
            self.assertEqual(result["Values"], [extended[stat]])

    @staticmethod
    def dimensions(service, **more):
        named = {"ServiceName": service["ServiceName"], "ServiceID": service["ServiceId"], **more}
        return [{"Name": name, "Value": value} for name, value in named.items()]

    def statistics(self, name, service, minute, **dimensions):
        """The one datapoint of a minute, or None."""
        answer = self.boto.get_metric_statistics(
            Namespace=NAMESPACE, MetricName=name, Dimensions=self.dimensions(service, **dimensions),
            StartTime=at(minute), EndTime=at(minute + MINUTE), Period=60,
            Statistics=["SampleCount", "Sum", "Average", "Minimum", "Maximum"])
        return answer["Datapoints"][0] if answer["Datapoints"] else None

    def sum(self, name, service, minute):
        found = self.statistics(name, service, minute)
        return found and found["Sum"]

    # ---- what the kernel says: version 2 of control groups, or version 1

    def read(self, instance, *names):
        """The first of these files that one of the instance's control groups has."""
        found = [pathlib.Path(path) for path in host.cgroup_directories(self.ekiden.name)
                 if pathlib.Path(path).name == instance]
        files = (directory / name for name in names for directory in found)
        return next(file for file in files if file.exists()).read_text()

    def cpu_micros(self, instance):
        text = self.read(instance, "cpuacct.usage", "cpu.stat")
        if text.strip().isdigit():
            return int(text) // 1000
        return fields(text)["usage_usec"]

    def memory_bytes(self, instance):
        """Without what the kernel could drop at once."""
        current = int(self.read(instance, "memory.usage_in_bytes", "memory.current"))
        stat = fields(self.read(instance, "memory.stat"))
        return current - stat.get("total_inactive_file", stat["inactive_file"])


def fields(text):
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}
