"""Every operation through the `aws` command line, as people and their scripts write it."""

import json
import pathlib
import shutil
import unittest

from botocore import xform_name

from support import images, model
from support.aws import Aws, Failed
from support.case import EkidenCase
from support.wait import until

VPC = "VpcId=vpc-0123456789abcdef0,VpcEndpointId=vpce-0123456789abcdef0"
MISSING = f"arn:aws:apprunner:us-east-1:100000000001:service/nobody/{'0' * 32}"

SMALL = {"Cpu": "256", "Memory": "128"}


def source(image):
    return {"ImageRepository": {"ImageIdentifier": image, "ImageRepositoryType": "ECR",
                                "ImageConfiguration": {"Port": "8080"}},
            "AutoDeploymentsEnabled": False}


def load_tests(loader, tests, _pattern):
    """The last looks back at all the others."""
    Afterwards.whole = not loader.testNamePatterns
    return unittest.TestSuite(
        loader.loadTestsFromTestCase(case) for case in (AwsCli, Afterwards))


@unittest.skipIf(shutil.which("aws") is None, "the aws command line is not installed")
class AwsCli(EkidenCase):
    label = "awsc"
    extra = '[service]\nassume_domains = true\n' \
            'stop_grace = "1s"'
    called = set()

    @classmethod
    def setUpClass(cls):
        cls.start_ekiden()
        cls.aws = Aws(cls.ekiden)
        cls.aws.called = AwsCli.called

    def apprunner(self, operation, *arguments, **flags):
        return self.aws("apprunner", operation, *arguments, **flags)

    def refused(self, *arguments, service="apprunner", **flags):
        """What the command says when it ends with an error."""
        with self.assertRaises(Failed) as caught:
            self.aws(service, *arguments, **flags)
        self.assertIn(caught.exception.status, (254, 255))
        return caught.exception.said

    def poll(self, arn, wanted):
        """As scripts do: until the status is another than OPERATION_IN_PROGRESS."""
        def status():
            return self.apprunner("describe-service", "--query", "Service.Status", "--output",
                                  "text", service_arn=arn)

        until("at rest", lambda: status() != "OPERATION_IN_PROGRESS", 120)
        self.assertEqual(status(), wanted)

    def small(self, name, image=None, **more):
        made = self.apprunner(
            "create-service", service_name=name, instance_configuration=SMALL,
            source_configuration=source(image or images.tiny()), **more)["Service"]
        self.addCleanup(self.remove, made["ServiceArn"])
        return made["ServiceArn"]

    def test_a_service_from_a_file_to_its_end(self):
        request = pathlib.Path(self.ekiden.base) / "service.json"
        request.write_text(json.dumps({
            "ServiceName": "from-file", "SourceConfiguration": source(images.tiny()),
            "InstanceConfiguration": {"Cpu": "0.25 vCPU", "Memory": "0.5 GB"},
            "Tags": [{"Key": "team", "Value": "web"}]}))
        arn = self.apprunner("create-service", "--query", "Service.ServiceArn", "--output", "text",
                             cli_input_json=f"file://{request}")
        self.addCleanup(self.remove, arn)
        self.poll(arn, "RUNNING")
        found = self.apprunner("list-services", "--output", "text", "--query",
                               "ServiceSummaryList[?ServiceName=='from-file'].ServiceArn")
        self.assertEqual(found, arn)
        self.apprunner("update-service", "--instance-configuration", "Cpu=0.25 vCPU,Memory=128",
                       "--health-check-configuration", "Protocol=TCP,Interval=1,Timeout=1",
                       service_arn=arn)
        self.poll(arn, "RUNNING")
        service = self.apprunner("describe-service", service_arn=arn)["Service"]
        self.assertEqual(service["InstanceConfiguration"]["Memory"], "128")
        self.assertRegex(str(service["CreatedAt"]), r"^(\d{10}$|\d{4}-\d\d-\d\dT)")
        operation = self.apprunner("start-deployment", "--query", "OperationId", "--output",
                                   "text", service_arn=arn)
        self.succeeds(arn, operation)
        self.apprunner("pause-service", service_arn=arn)
        self.poll(arn, "PAUSED")
        self.assertNotIn("OperationId", self.apprunner("pause-service", service_arn=arn))
        self.apprunner("resume-service", service_arn=arn)
        self.poll(arn, "RUNNING")
        listed = self.apprunner("list-operations", "--max-results", "2", service_arn=arn)
        self.assertEqual([o["Type"] for o in listed["OperationSummaryList"]],
                         ["RESUME_SERVICE", "PAUSE_SERVICE"])
        more = self.apprunner("list-operations", service_arn=arn, max_results="2",
                              next_token=listed["NextToken"])
        self.assertEqual([o["Type"] for o in more["OperationSummaryList"]],
                         ["START_DEPLOYMENT", "UPDATE_SERVICE"])
        self.apprunner("delete-service", service_arn=arn)
        self.poll(arn, "DELETED")

    def test_auto_scaling_configurations(self):
        create = ("create-auto-scaling-configuration", "--auto-scaling-configuration-name",
                  "cli-scaling", "--max-concurrency", "50", "--min-size", "1", "--max-size", "2",
                  "--tags", "Key=team,Value=web", "Key=stage,Value=test")
        first, second = (self.apprunner(*create)["AutoScalingConfiguration"] for _ in range(2))
        arn = second["AutoScalingConfigurationArn"]
        partial = arn.rsplit("/", 2)[0]
        latest = self.apprunner("describe-auto-scaling-configuration",
                                auto_scaling_configuration_arn=partial)
        self.assertEqual(latest["AutoScalingConfiguration"]["AutoScalingConfigurationArn"], arn)
        for flag, count in (("--latest-only", 1), ("--no-latest-only", 2)):
            listed = self.apprunner("list-auto-scaling-configurations", flag,
                                    auto_scaling_configuration_name="cli-scaling")
            self.assertEqual(len(listed["AutoScalingConfigurationSummaryList"]), count)
        service = self.small("cli-scaled", "localhost/none:1",
                             auto_scaling_configuration_arn=f"{partial}/1")
        used = self.apprunner("list-services-for-auto-scaling-configuration",
                              auto_scaling_configuration_arn=first["AutoScalingConfigurationArn"])
        self.assertEqual(used["ServiceArnList"], [service])
        said = self.refused("delete-auto-scaling-configuration",
                            auto_scaling_configuration_arn=f"{partial}/1")
        self.assertIn("It's used by one or more services.", said)
        self.remove(service)
        before = self.apprunner(
            "list-auto-scaling-configurations", "--output", "text", "--query",
            "AutoScalingConfigurationSummaryList[?IsDefault].AutoScalingConfigurationArn")
        moved = self.apprunner("update-default-auto-scaling-configuration",
                               auto_scaling_configuration_arn=arn)
        self.assertTrue(moved["AutoScalingConfiguration"]["IsDefault"])
        self.apprunner("update-default-auto-scaling-configuration",
                       auto_scaling_configuration_arn=before)
        gone = self.apprunner("delete-auto-scaling-configuration", "--delete-all-revisions",
                              auto_scaling_configuration_arn=partial)
        self.assertEqual(gone["AutoScalingConfiguration"]["Status"], "inactive")

    def test_connections(self):
        made = self.apprunner("create-connection", connection_name="cli-github",
                              provider_type="GITHUB")["Connection"]
        found = self.apprunner("list-connections", "--output", "text", "--query",
                               "ConnectionSummaryList[0].ConnectionArn",
                               connection_name="cli-github")
        self.assertEqual(found, made["ConnectionArn"])
        gone = self.apprunner("delete-connection", connection_arn=found)
        self.assertEqual(gone["Connection"]["Status"], "DELETED")

    def test_observability_configurations(self):
        made = self.apprunner(
            "create-observability-configuration", "--trace-configuration", "Vendor=AWSXRAY",
            observability_configuration_name="cli-traces")["ObservabilityConfiguration"]
        arn = made["ObservabilityConfigurationArn"]
        shown = self.apprunner("describe-observability-configuration",
                               observability_configuration_arn=arn)
        self.assertEqual(shown["ObservabilityConfiguration"], made)
        listed = self.apprunner("list-observability-configurations")
        self.assertIn(arn, [c["ObservabilityConfigurationArn"]
                            for c in listed["ObservabilityConfigurationSummaryList"]])
        gone = self.apprunner("delete-observability-configuration",
                              observability_configuration_arn=arn)
        self.assertEqual(gone["ObservabilityConfiguration"]["Status"], "INACTIVE")

    def test_vpc_connectors(self):
        made = self.apprunner(
            "create-vpc-connector", "--subnets", "subnet-1", "subnet-2", "--security-groups",
            "sg-1", vpc_connector_name="cli-connector")["VpcConnector"]
        arn = made["VpcConnectorArn"]
        self.assertEqual((made["Subnets"], made["SecurityGroups"], made["Status"]),
                         (["subnet-1", "subnet-2"], ["sg-1"], "ACTIVE"))
        shown = self.apprunner("describe-vpc-connector", vpc_connector_arn=arn)
        self.assertEqual(shown["VpcConnector"], made)
        listed = self.apprunner("list-vpc-connectors", "--query", "VpcConnectors[].VpcConnectorArn")
        self.assertIn(arn, listed)
        gone = self.apprunner("delete-vpc-connector", vpc_connector_arn=arn)
        self.assertEqual(gone["VpcConnector"]["Status"], "INACTIVE")

    def test_a_private_service_and_its_ingress_connection(self):
        service = self.small("cli-private", network_configuration={
            "IngressConfiguration": {"IsPubliclyAccessible": False}})
        self.poll(service, "RUNNING")
        made = self.apprunner(
            "create-vpc-ingress-connection", "--ingress-vpc-configuration", VPC,
            service_arn=service, vpc_ingress_connection_name="cli-ingress")
        arn = made["VpcIngressConnection"]["VpcIngressConnectionArn"]

        def reaches(wanted):
            until(wanted, lambda: self.apprunner(
                "describe-vpc-ingress-connection", "--output", "text", "--query",
                "VpcIngressConnection.Status", vpc_ingress_connection_arn=arn) == wanted, 60)

        reaches("AVAILABLE")
        listed = self.apprunner("list-vpc-ingress-connections", filter=f"ServiceArn={service}")
        self.assertEqual(listed["VpcIngressConnectionSummaryList"],
                         [{"VpcIngressConnectionArn": arn, "ServiceArn": service}])
        self.apprunner("update-vpc-ingress-connection", "--ingress-vpc-configuration",
                       "VpcId=vpc-1,VpcEndpointId=vpce-2", vpc_ingress_connection_arn=arn)
        reaches("AVAILABLE")
        self.apprunner("delete-vpc-ingress-connection", vpc_ingress_connection_arn=arn)
        reaches("DELETED")

    def test_custom_domains(self):
        service = self.small("cli-domains")
        self.poll(service, "RUNNING")
        made = self.apprunner("associate-custom-domain", "--no-enable-www-subdomain",
                              service_arn=service, domain_name="cli.example.com")
        self.assertEqual(made["CustomDomain"]["Status"], "creating")

        def domains():
            return self.apprunner("describe-custom-domains", service_arn=service)["CustomDomains"]

        until("with its records", lambda: domains()[0].get("CertificateValidationRecords"), 60)
        gone = self.apprunner("disassociate-custom-domain", service_arn=service,
                              domain_name="cli.example.com")
        self.assertEqual(gone["CustomDomain"]["Status"], "deleting")
        until("gone", lambda: not domains(), 60)

    def test_tags(self):
        service = self.small("cli-tagged", "localhost/none:1", tags="Key=team,Value=web")
        self.apprunner("tag-resource", "--tags", "Key=stage,Value=test", "Key=empty,Value=",
                       resource_arn=service)
        self.apprunner("untag-resource", "--tag-keys", "team", "unknown", resource_arn=service)
        tags = self.apprunner("list-tags-for-resource", resource_arn=service)["Tags"]
        self.assertEqual({t["Key"]: t["Value"] for t in tags}, {"stage": "test", "empty": ""})

    def test_errors_are_told_as_by_aws(self):
        said = self.refused("list-services", max_results="21")
        self.assertTrue(said.startswith(
            "An error occurred (InvalidRequestException) when calling the ListServices operation: "
            "1 validation error detected: "), said)
        said = self.refused("describe-service", service_arn=MISSING)
        self.assertIn("(ResourceNotFoundException) when calling the DescribeService", said)
        said = self.refused("delete-service", service_arn="nonsense")
        self.assertIn("(InvalidRequestException) when calling the DeleteService", said)
        wrong = Aws(self.ekiden)
        wrong.environment["AWS_SECRET_ACCESS_KEY"] = "nonsense"
        with self.assertRaises(Failed) as caught:
            wrong("apprunner", "list-services")
        self.assertIn("(InvalidSignatureException)", caught.exception.said)
        wrong.environment["AWS_ACCESS_KEY_ID"] = "AKIANOBODY"
        with self.assertRaises(Failed) as caught:
            wrong("apprunner", "list-services")
        self.assertIn("(UnrecognizedClientException) when calling the ListServices operation: The "
                      "security token included in the request is invalid.", caught.exception.said)

    def test_who_am_i(self):
        me = self.aws("sts", "get-caller-identity")
        self.assertEqual(me["Account"], "100000000001")
        self.assertTrue(me["Arn"].startswith("arn:aws:iam::100000000001:"), me)
        self.assertTrue(me["UserId"])

    def test_secrets(self):
        made = self.aws("secretsmanager", "create-secret", name="cli/secret",
                        secret_string='{"user": "a", "password": "hush"}')
        self.assertRegex(made["ARN"], r":secret:cli/secret-[A-Za-z0-9]{6}$")
        read = ("get-secret-value", "--query", "SecretString", "--output", "text")
        for name in ("cli/secret", made["ARN"]):
            self.assertIn("hush", self.aws("secretsmanager", *read, secret_id=name))
        self.aws("secretsmanager", "put-secret-value", secret_id="cli/secret", secret_string="new")
        self.assertEqual(self.aws("secretsmanager", *read, secret_id="cli/secret"), "new")
        self.assertEqual(self.aws("secretsmanager", *read, secret_id="cli/secret",
                                  version_stage="AWSPREVIOUS")[:1], "{")
        shown = self.aws("secretsmanager", "describe-secret", secret_id="cli/secret")
        self.assertNotIn("hush", json.dumps(shown))
        listed = self.aws("secretsmanager", "list-secrets", "--query", "SecretList[].Name")
        self.assertIn("cli/secret", listed)
        self.aws("secretsmanager", "delete-secret", "--force-delete-without-recovery",
                 secret_id="cli/secret")
        said = self.refused(*read, service="secretsmanager", secret_id="cli/secret")
        self.assertIn("(ResourceNotFoundException)", said)

    def test_parameters(self):
        for name, kind, value in (("/cli/plain", "String", "one"),
                                  ("/cli/hidden", "SecureString", "two")):
            self.aws("ssm", "put-parameter", name=name, type=kind, value=value)
        read = ("--query", "Parameter.Value", "--output", "text")
        self.assertEqual(self.aws("ssm", "get-parameter", *read, name="/cli/plain"), "one")
        self.assertEqual(self.aws("ssm", "get-parameter", "--with-decryption", *read,
                                  name="/cli/hidden"), "two")
        self.assertNotEqual(self.aws("ssm", "get-parameter", *read, name="/cli/hidden"), "two")
        several = self.aws("ssm", "get-parameters", "--names", "/cli/plain", "/cli/none")
        self.assertEqual(several["InvalidParameters"], ["/cli/none"])
        below = self.aws("ssm", "get-parameters-by-path", "--recursive", path="/cli")
        self.assertEqual(len(below["Parameters"]), 2)
        self.aws("ssm", "put-parameter", "--overwrite", name="/cli/plain", type="String",
                 value="three")
        self.assertEqual(self.aws("ssm", "get-parameter", *read, name="/cli/plain"), "three")
        self.aws("ssm", "delete-parameter", name="/cli/plain")
        said = self.refused("get-parameter", service="ssm", name="/cli/plain")
        self.assertIn("(ParameterNotFound)", said)


class Afterwards(unittest.TestCase):
    whole = False

    @unittest.skipIf(shutil.which("aws") is None, "the aws command line is not installed")
    def test_every_operation_was_called(self):
        if not self.whole:
            self.skipTest("only after the whole suite: tests were chosen by name")
        called = {operation for service, operation in AwsCli.called if service == "apprunner"}
        wanted = {xform_name(operation, "-") for operation in model.OPERATIONS}
        self.assertEqual(wanted - called, set())
        print(f"    {len(called)} operations called", flush=True)
