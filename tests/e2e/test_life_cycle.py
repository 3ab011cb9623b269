"""A real web application through its whole life, with boto3 and with the aws command line.

The states and messages are those of App Runner's API reference and developer guide.
"""

import http.client
import json
import shutil
import unittest

import botocore.exceptions

from support import host, images
from support.aws import Aws
from support.case import EkidenCase, settings
from support.server import http_health, service_request
from support.wait import until

DEFAULT_HEALTH = {"Protocol": "TCP", "Path": "/", "Interval": 5, "Timeout": 2,
                  "HealthyThreshold": 1, "UnhealthyThreshold": 5}


class LifeCycle(EkidenCase):
    label = "life"

    def setUp(self):
        self.client = self.ekiden.client()

    def refused(self, code, call, **members):
        """The message of a call that must be refused with this code."""
        with self.assertRaises(botocore.exceptions.ClientError) as caught:
            call(**members)
        error = caught.exception.response["Error"]
        self.assertEqual(error["Code"], code, error)
        return error["Message"]

    def newest(self, arn):
        return self.client.list_operations(ServiceArn=arn)["OperationSummaryList"][0]

    def test_create_answers_at_once_and_the_service_comes_to_run(self):
        request = service_request("create-1", images.web(), cpu="1 vCPU", memory="2 GB")
        answer = self.client.create_service(**request, Tags=[{"Key": "team", "Value": "a"}])
        service = answer["Service"]
        arn = service["ServiceArn"]
        self.addCleanup(self.remove, arn)
        self.assertEqual(service["Status"], "OPERATION_IN_PROGRESS")
        self.assertEqual(service["InstanceConfiguration"]["Cpu"], "1024")
        self.assertEqual(service["InstanceConfiguration"]["Memory"], "2048")
        self.assertEqual(service["ServiceId"], arn.rpartition("/")[2])
        self.assertRegex(arn, r"^arn:aws:apprunner:us-east-1:\d{12}:service/create-1/[0-9a-f]{32}$")
        self.assertRegex(service["ServiceUrl"], r"^[a-z0-9]{10}\.us-east-1\.")
        self.assertEqual(service["HealthCheckConfiguration"], DEFAULT_HEALTH)
        image = service["SourceConfiguration"]["ImageRepository"]
        self.assertEqual(image["ImageConfiguration"]["Port"], "8080")
        self.assertEqual(service["NetworkConfiguration"]["EgressConfiguration"]["EgressType"],
                         "DEFAULT")
        self.assertTrue(
            service["NetworkConfiguration"]["IngressConfiguration"]["IsPubliclyAccessible"])
        self.assertNotIn("ObservabilityConfiguration", service)
        self.assertIn("AutoScalingConfigurationArn", service["AutoScalingConfigurationSummary"])

        self.succeeds(arn, answer["OperationId"])
        after = self.client.describe_service(ServiceArn=arn)["Service"]
        self.assertEqual(after["Status"], "RUNNING")
        self.assertEqual(after["ServiceUrl"], service["ServiceUrl"])
        self.assertEqual(after["UpdatedAt"], after["CreatedAt"])
        operation = self.newest(arn)
        self.assertEqual((operation["Type"], operation["Status"]), ("CREATE_SERVICE", "SUCCEEDED"))
        self.assertEqual(operation["Id"], answer["OperationId"])
        self.assertIn("EndedAt", operation)
        self.assertIn(arn, [s["ServiceArn"] for s in self.list_services()])
        self.assertEqual(self.ekiden.whoami(service)["service"], "create-1")

    def list_services(self):
        found, token = [], {}
        while True:
            page = self.client.list_services(MaxResults=2, **token)
            self.assertLessEqual(len(page["ServiceSummaryList"]), 2)
            found += page["ServiceSummaryList"]
            if not page.get("NextToken"):
                return found
            token = {"NextToken": page["NextToken"]}

    def test_a_client_that_polls_sees_only_possible_states(self):
        answer = self.client.create_service(**service_request("states-1", images.web()))
        arn = answer["Service"]["ServiceArn"]
        self.addCleanup(self.remove, arn)
        self.assertEqual(self.states(arn), ["OPERATION_IN_PROGRESS", "RUNNING"])
        for call, last in ((self.client.pause_service, "PAUSED"),
                           (self.client.resume_service, "RUNNING"),
                           (self.client.start_deployment, "RUNNING"),
                           (self.client.delete_service, "DELETED")):
            call(ServiceArn=arn)
            self.assertEqual(self.states(arn), ["OPERATION_IN_PROGRESS", last])
        kinds = [o["Type"] for o in self.client.list_operations(ServiceArn=arn)
                 ["OperationSummaryList"]]
        self.assertEqual(kinds, ["DELETE_SERVICE", "START_DEPLOYMENT", "RESUME_SERVICE",
                                 "PAUSE_SERVICE", "CREATE_SERVICE"])

    def states(self, arn):
        """Statuses in the order they were seen until the service is at rest; operations too."""
        seen, operations = [], []

        def at_rest():
            operation = self.newest(arn)["Status"]
            status = self.status(arn)
            for history, now in ((seen, status), (operations, operation)):
                if history[-1:] != [now]:
                    history.append(now)
            return status != "OPERATION_IN_PROGRESS"

        until("at rest", at_rest, 120)
        if seen[0] != "OPERATION_IN_PROGRESS":
            seen.insert(0, "OPERATION_IN_PROGRESS")  # over before the first look
        order = ["PENDING", "IN_PROGRESS", "SUCCEEDED"]
        self.assertEqual(operations, [o for o in order if o in operations])
        return seen

    def test_a_name_is_taken_until_its_service_is_deleted(self):
        first = self.running("same-name")
        again = service_request("same-name", images.web())
        message = self.refused("InvalidRequestException", self.client.create_service, **again)
        self.assertEqual(message, "Service with the provided name already exists: same-name")
        self.ekiden.delete(first["ServiceArn"])
        second = self.running("same-name")
        self.assertNotEqual(first["ServiceUrl"], second["ServiceUrl"])

    def test_one_operation_at_a_time(self):
        answer = self.client.create_service(**service_request("busy-1", images.web()))
        arn = answer["Service"]["ServiceArn"]
        self.addCleanup(self.remove, arn)
        busy = "OPERATION_IN_PROGRESS"
        for verb, call in (("deleted", self.client.delete_service),
                           ("paused", self.client.pause_service),
                           ("resumed", self.client.resume_service),
                           ("updated", self.client.update_service)):
            more = {"InstanceConfiguration": {"Memory": "3 GB"}} if verb == "updated" else {}
            message = self.refused("InvalidStateException", call, ServiceArn=arn, **more)
            self.assertEqual(message, f"Service cannot be {verb} in the current state: {busy}.")
        message = self.refused(
            "InvalidRequestException", self.client.start_deployment, ServiceArn=arn)
        self.assertEqual(message, "Can't start a deployment on the specified service, because it "
                                  "isn't in RUNNING state.")
        self.succeeds(arn, answer["OperationId"])

    def test_update_takes_the_new_image_and_the_new_environment(self):
        service = self.running("update-1", env={"GREETING": "hi", "KEEP": "no"})
        arn = service["ServiceArn"]
        before = self.ekiden.whoami(service)
        self.assertEqual((before["build"], before["greeting"], before["revision"]),
                         ("1", "hi", "1"))
        with self.under_load(service, rate=50):
            operation = self.update_image(arn, images.web(2), env={"GREETING": "hei"})
            requested = self.client.describe_service(ServiceArn=arn)["Service"]
            image = requested["SourceConfiguration"]["ImageRepository"]
            self.assertEqual(image["ImageIdentifier"], images.web(2))
            self.succeeds(arn, operation)
        after = self.ekiden.whoami(service)
        self.assertEqual((after["build"], after["greeting"], after["revision"]), ("2", "hei", "2"))
        self.assertNotIn("KEEP", json.loads(self.answers(service, "/env")[1]))
        self.assertEqual(self.newest(arn)["Status"], "SUCCEEDED")
        self.assertEqual(self.status(arn), "RUNNING")

    def test_update_of_one_member_keeps_the_others(self):
        service = self.running("update-2", env={"GREETING": "hi"})
        arn = service["ServiceArn"]
        answer = self.client.update_service(
            ServiceArn=arn, InstanceConfiguration={"Memory": "3 GB"})
        self.succeeds(arn, answer["OperationId"])
        after = self.client.describe_service(ServiceArn=arn)["Service"]
        self.assertEqual(after["InstanceConfiguration"]["Memory"], "3072")
        self.assertEqual(after["InstanceConfiguration"]["Cpu"], "1024")
        self.assertEqual(self.ekiden.whoami(service)["greeting"], "hi")

    def test_start_deployment_takes_what_the_tag_names_now(self):
        reference = images.registry().tag(images.web(1), "e2e/moving:latest")
        service = self.running("deploy-1", reference)
        self.assertEqual(self.ekiden.whoami(service)["build"], "1")
        images.web(2)
        images.registry().tag(images.web(2), "e2e/moving:latest")
        with self.under_load(service, rate=50):
            answer = self.client.start_deployment(ServiceArn=service["ServiceArn"])
            self.succeeds(service["ServiceArn"], answer["OperationId"])
        self.assertEqual(self.ekiden.whoami(service)["build"], "2")
        self.assertEqual(self.newest(service["ServiceArn"])["Type"], "START_DEPLOYMENT")

    def test_a_failed_update_leaves_everything_as_it_was(self):
        service = self.running("rollback-1", env={"GREETING": "old"}, health=http_health())
        arn = service["ServiceArn"]
        with self.under_load(service, rate=50):
            for more, wanted in (
                ({"image": f"{images.registry().address}/e2e/none:1"}, "not found"),
                ({"image": images.web(), "env": {"BROKEN": "exit"}}, "exited with code 3"),
            ):
                over = self.ekiden.wait_operation(arn, self.update_image(arn, **more))
                self.assertEqual(over["Status"], "ROLLBACK_SUCCEEDED", over)
                self.assertIn(wanted, over["Failure"]["Reason"])
                self.assertEqual(self.status(arn), "RUNNING")
        self.assertIn("cannot find the configuration", "\n".join(over["Failure"]["LogLines"]))
        after = self.client.describe_service(ServiceArn=arn)["Service"]
        image = after["SourceConfiguration"]["ImageRepository"]
        self.assertEqual(image["ImageIdentifier"], images.web())
        self.assertEqual(image["ImageConfiguration"]["RuntimeEnvironmentVariables"],
                         {"GREETING": "old"})
        self.assertEqual(self.ekiden.whoami(service)["revision"], "1")

    def test_a_failed_create_is_mended_by_an_update(self):
        service = self.service("mend-1", env={"BROKEN": "exit"})
        arn = service["ServiceArn"]
        self.assertEqual(service["Status"], "CREATE_FAILED")
        self.assertEqual(self.newest(arn)["Status"], "FAILED")
        status, headers, _ = self.ekiden.get(service)
        self.assertEqual((status, headers.get("x-ekiden-cause")), (503, "not_deployed"))
        again = self.client.update_service(ServiceArn=arn)  # a rebuild, as it is
        over = self.ekiden.wait_operation(arn, again["OperationId"])
        self.assertEqual((over["Type"], over["Status"]), ("UPDATE_SERVICE", "FAILED"))
        self.assertEqual(self.status(arn), "CREATE_FAILED")
        self.succeeds(arn, self.update_image(arn, images.web(), env={"GREETING": "mended"}))
        self.assertEqual(self.ekiden.whoami(service)["greeting"], "mended")
        message = self.refused(
            "InvalidRequestException", self.client.update_service, ServiceArn=arn)
        self.assertEqual(message, "No configurations provided in the UpdateService request.")

    def test_a_failed_create_can_be_deleted(self):
        service = self.service("mend-2", env={"BROKEN": "exit"})
        self.ekiden.delete(service["ServiceArn"])
        self.assertEqual(self.status(service["ServiceArn"]), "DELETED")

    def test_pause_and_resume(self):
        service = self.running("pause-1", env={"GREETING": "same"})
        arn = service["ServiceArn"]
        message = self.client.resume_service(ServiceArn=arn)
        self.assertNotIn("OperationId", message)
        self.succeeds(arn, self.client.pause_service(ServiceArn=arn)["OperationId"])
        self.assertEqual(self.status(arn), "PAUSED")
        self.assertEqual(self.ekiden.instances(arn), [])
        status, headers, _ = self.ekiden.get(service)
        self.assertEqual((status, headers.get("x-ekiden-cause")), (503, "paused"))
        again = self.client.pause_service(ServiceArn=arn)
        self.assertNotIn("OperationId", again)
        self.assertEqual(again["Service"]["Status"], "PAUSED")
        message = self.refused("InvalidStateException", self.client.update_service, ServiceArn=arn,
                               InstanceConfiguration={"Memory": "3 GB"})
        self.assertEqual(message, "Service cannot be updated in the current state: PAUSED.")
        self.refused("InvalidRequestException", self.client.start_deployment, ServiceArn=arn)
        self.succeeds(arn, self.client.resume_service(ServiceArn=arn)["OperationId"])
        after = self.ekiden.whoami(service)
        self.assertEqual((after["greeting"], after["revision"]), ("same", "1"))
        self.assertEqual(self.newest(arn)["Type"], "RESUME_SERVICE")

    def test_a_resume_needs_no_registry(self):
        reference = images.registry().tag(images.web(1), "e2e/vanishing:1")
        service = self.running("pause-2", reference)
        arn = service["ServiceArn"]
        self.succeeds(arn, self.client.pause_service(ServiceArn=arn)["OperationId"])
        digest = json.loads(host.run("skopeo", "inspect", "--tls-verify=false",
                                     f"docker://{reference}"))["Digest"]
        moved = images.registry().tag(images.web(2), "e2e/vanishing:1")
        self.assertEqual(moved, reference)
        self.succeeds(arn, self.client.resume_service(ServiceArn=arn)["OperationId"])
        self.assertEqual(self.ekiden.whoami(service)["build"], "1", digest)

    def test_delete_leaves_a_tombstone(self):
        service = self.running("delete-1")
        arn = service["ServiceArn"]
        answer = self.client.delete_service(ServiceArn=arn)
        self.assertEqual(answer["Service"]["Status"], "OPERATION_IN_PROGRESS")
        self.succeeds(arn, answer["OperationId"])
        after = self.client.describe_service(ServiceArn=arn)["Service"]
        self.assertEqual(after["Status"], "DELETED")
        self.assertIn("DeletedAt", after)
        self.assertNotIn(arn, [s["ServiceArn"] for s in self.list_services()])
        status, headers, _ = self.ekiden.get(service)
        self.assertEqual((status, headers.get("x-ekiden-cause")), (404, "no_such_host"))

    def test_the_application_sees_what_was_configured(self):
        service = self.running("environ-1", port="9000", env={"A": "1", "EMPTY": "", "UML": "äöü"})
        env = json.loads(self.answers(service, "/env")[1])
        self.assertEqual((env["A"], env["EMPTY"], env["UML"], env["PORT"]),
                         ("1", "", "äöü", "9000"))
        me = self.ekiden.whoami(service)
        (instance,) = self.ekiden.instances(service["ServiceArn"])
        self.assertEqual(me["instance"], instance["InstanceId"])
        self.assertEqual((env["EKIDEN_SERVICE"], env["EKIDEN_REVISION"]), ("environ-1", "1"))
        for name in ("PORT", "AWSAPPRUNNER_X"):
            request = service_request("environ-2", images.web(), env={name: "1"})
            self.assertIn(name, self.refused(
                "InvalidRequestException", self.client.create_service, **request))

    def test_a_start_command_takes_the_place_of_the_images(self):
        service = self.running("command-1", command="python3 -u app.py --anything 'two words'")
        first = self.ekiden.first_process(self.ekiden.whoami(service)["instance"])
        with open(f"/proc/{first}/cmdline") as file:
            self.assertEqual(file.read().split("\0")[-3:], ["--anything", "two words", ""])

    def test_bad_members_are_told_all_at_once(self):
        request = service_request("bad", images.web(), cpu="0 vCPU", memory="0 GB")
        request["ServiceName"] = "bad-1"
        message = self.refused("InvalidRequestException", self.client.create_service, **request)
        self.assertRegex(message, r"^2 validation errors detected: Value '.*' at "
                                  r"'instanceConfiguration\.\w+' failed to satisfy constraint: .*; ")
        message = self.refused("InvalidRequestException", self.client.list_services, MaxResults=21)
        self.assertTrue(message.startswith("1 validation error detected:"), message)
        unknown = f"arn:aws:apprunner:us-east-1:100000000001:service/none/{'0' * 32}"
        self.refused("ResourceNotFoundException", self.client.describe_service, ServiceArn=unknown)

    def test_an_operation_nobody_has_heard_of(self):
        status, fields, answer = self.ekiden.call("AppRunner.MakeCoffee", "{}")
        self.assertEqual((status, answer["__type"]), (404, "UnknownOperationException"))
        self.assertRegex(fields["x-amzn-requestid"], r"^[0-9a-f-]{36}$")

    def test_only_who_has_the_key_is_served(self):
        unsigned = http.client.HTTPConnection("127.0.0.1", self.ekiden.api_port, timeout=10)
        unsigned.request("POST", "/", b"{}", {"X-Amz-Target": "AppRunner.ListServices",
                                              "Content-Type": "application/x-amz-json-1.0"})
        response = unsigned.getresponse()
        answer = json.loads(response.read())
        unsigned.close()
        self.assertEqual((response.status, answer["__type"]),
                         (403, "MissingAuthenticationTokenException"))


@unittest.skipIf(shutil.which("aws") is None, "the aws command line is not installed")
class AwsCommandLine(EkidenCase):
    label = "aws"

    def aws(self, *arguments, **members):
        return Aws(self.ekiden)("apprunner", *arguments, **members)

    def test_a_whole_life(self):
        request = service_request("cli-life", images.web(), env={"GREETING": "first"})
        made = self.aws("create-service", service_name="cli-life",
                        source_configuration=request["SourceConfiguration"],
                        instance_configuration={"Cpu": "1 vCPU", "Memory": "2 GB"})
        arn = made["Service"]["ServiceArn"]
        self.addCleanup(self.remove, arn)
        self.succeeds(arn, made["OperationId"])
        service = self.aws("describe-service", service_arn=arn)["Service"]
        self.assertEqual(service["Status"], "RUNNING")
        self.assertEqual(self.ekiden.whoami(service)["greeting"], "first")

        source = service_request("x", images.web(2), env={"GREETING": "second"})
        updated = self.aws("update-service", service_arn=arn,
                           source_configuration=source["SourceConfiguration"])
        self.succeeds(arn, updated["OperationId"])
        self.assertEqual(self.ekiden.whoami(service)["build"], "2")
        deployed = self.aws("start-deployment", service_arn=arn)
        self.succeeds(arn, deployed["OperationId"])
        self.assertEqual(self.ekiden.whoami(service)["revision"], "3")

        paused = self.aws("pause-service", service_arn=arn)
        self.succeeds(arn, paused["OperationId"])
        resumed = self.aws("resume-service", service_arn=arn)
        self.succeeds(arn, resumed["OperationId"])
        self.assertEqual(self.ekiden.whoami(service)["greeting"], "second")

        source = service_request("x", images.web(), env={"BROKEN": "health"})
        failing = self.aws("update-service", service_arn=arn,
                           source_configuration=source["SourceConfiguration"],
                           health_check_configuration=http_health())
        self.await_rollback(arn, failing["OperationId"], service)

        listed = self.aws("list-services")["ServiceSummaryList"]
        self.assertIn("cli-life", [s["ServiceName"] for s in listed])
        operations = self.aws("list-operations", service_arn=arn)["OperationSummaryList"]
        self.assertEqual([o["Type"] for o in operations], [
            "UPDATE_SERVICE", "RESUME_SERVICE", "PAUSE_SERVICE", "START_DEPLOYMENT",
            "UPDATE_SERVICE", "CREATE_SERVICE"])
        deleted = self.aws("delete-service", service_arn=arn)
        self.succeeds(arn, deleted["OperationId"])
        self.assertEqual(self.aws("describe-service", service_arn=arn)["Service"]["Status"],
                         "DELETED")

    # A service that answers its health check with 503 may only be starting, so it has all the time
    # that a start may take: here less than the default five minutes.
    extra = '[service]\nstart_limit = "15s"'

    def await_rollback(self, arn, operation, service):
        over = self.ekiden.wait_operation(arn, operation)
        self.assertEqual(over["Status"], "ROLLBACK_SUCCEEDED", over)
        self.assertIn("503", over["Failure"]["Reason"])
        self.assertEqual(self.ekiden.whoami(service)["build"], "2")
        self.assertEqual(self.status(arn), "RUNNING")


if __name__ == "__main__":
    settings.CACHE.mkdir(parents=True, exist_ok=True)
    unittest.main()
