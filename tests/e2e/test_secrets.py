"""Secrets Manager and Parameter Store through boto3, and a container that reads its secrets."""

import json
import pathlib

import botocore.exceptions

from support import host, images, settings
from support.case import EkidenCase
from support.server import service_request

VALUE = "hunter2-correct-horse"


class Secrets(EkidenCase):
    label = "secrets"

    @property
    def secrets(self):
        return self.ekiden.client("secretsmanager")

    @property
    def parameters(self):
        return self.ekiden.client("ssm")

    def secret(self, name, **value):
        made = self.secrets.create_secret(Name=name, **value)
        self.addCleanup(self.secrets.delete_secret, SecretId=made["ARN"],
                        ForceDeleteWithoutRecovery=True)
        return made["ARN"]

    def fails(self, code, call, **members):
        with self.assertRaises(botocore.exceptions.ClientError) as raised:
            call(**members)
        self.assertEqual(raised.exception.response["Error"]["Code"], code)
        return raised.exception.response["Error"]["Message"]

    def with_secrets(self, name, secrets):
        """A service whose variables are these references."""
        request = service_request(name, images.web())
        image = request["SourceConfiguration"]["ImageRepository"]["ImageConfiguration"]
        image["RuntimeEnvironmentSecrets"] = secrets
        made = self.ekiden.client().create_service(**request)
        arn = made["Service"]["ServiceArn"]
        self.addCleanup(self.remove, arn)
        self.succeeds(arn, made["OperationId"])
        return self.ekiden.client().describe_service(ServiceArn=arn)["Service"]

    def environment(self, service):
        status, _, body = self.ekiden.get(service, "/env")
        self.assertEqual(status, 200)
        return json.loads(body)

    def deploy(self, arn):
        operation = self.ekiden.client().start_deployment(ServiceArn=arn)["OperationId"]
        return self.ekiden.wait_operation(arn, operation)

    def test_a_container_reads_its_secrets_and_nothing_else_shows_them(self):
        arn = self.secret("shop/db", SecretString=json.dumps({"password": VALUE}))
        self.parameters.put_parameter(Name="/shop/key", Value="first", Type="SecureString")
        self.addCleanup(self.parameters.delete_parameter, Name="/shop/key")
        references = {"DB_PASSWORD": f"{arn}:password::", "KEY": "/shop/key"}
        service = self.with_secrets("shop", references)
        got = self.environment(service)
        self.assertEqual((got["DB_PASSWORD"], got["KEY"]), (VALUE, "first"))

        # A rotation shows at the next deployment.
        self.parameters.put_parameter(Name="/shop/key", Value="second", Overwrite=True)
        self.assertEqual(self.environment(service)["KEY"], "first")
        self.assertEqual(self.deploy(service["ServiceArn"])["Status"], "SUCCEEDED")
        self.assertEqual(self.environment(service)["KEY"], "second")

        # What was deleted fails the next one, and what runs goes on, a replacement included.
        self.secrets.delete_secret(SecretId=arn, RecoveryWindowInDays=7)
        over = self.deploy(service["ServiceArn"])
        self.assertEqual(over["Status"], "ROLLBACK_SUCCEEDED")
        failure = self.ekiden.operation(service["ServiceArn"])["Failure"]["Reason"]
        self.assertIn(f"Failed to retrieve secrets: DB_PASSWORD: {arn}:password::: ", failure)
        self.ekiden.get(service, "/crash")
        self.assertEqual(self.environment(service)["DB_PASSWORD"], VALUE)
        self.secrets.restore_secret(SecretId=arn)

        described = self.ekiden.client().describe_service(ServiceArn=service["ServiceArn"])
        image = described["Service"]["SourceConfiguration"]["ImageRepository"]
        shown = image["ImageConfiguration"]["RuntimeEnvironmentSecrets"]
        self.assertEqual(shown, references)
        self.assertNowhere(service)

    def assertNowhere(self, service):
        """The value is in no file of this Ekiden, and only the instance's processes show it."""
        files = 0
        for path in pathlib.Path(self.ekiden.base).rglob("*"):
            if path.is_file() and not path.is_symlink():
                files += 1
                self.assertNotIn(VALUE.encode(), path.read_bytes(), path)
        self.assertGreater(files, 5)
        instances = {self.ekiden.first_process(one) for one in self.ekiden.shims()}
        inside = {p.pid for p in host.descendants(host.processes(), instances)}
        for process in self.ekiden.processes():
            if process.pid in inside:
                continue
            entry = pathlib.Path(f"/proc/{process.pid}")
            shown = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            self.assertNotIn(VALUE.encode(), shown, process)

    def test_secrets_through_boto3(self):
        client = self.secrets
        arn = self.secret("team/one", SecretString="a", Description="d",
                          Tags=[{"Key": "k", "Value": "v"}])
        first = client.get_secret_value(SecretId="team/one")
        self.assertEqual((first["SecretString"], first["ARN"]), ("a", arn))
        self.assertIsNotNone(first["CreatedDate"].year)
        client.put_secret_value(SecretId=arn, SecretBinary=b"\x00\xff")
        self.assertEqual(client.get_secret_value(SecretId=arn[:-7])["SecretBinary"], b"\x00\xff")
        before = client.get_secret_value(SecretId=arn, VersionStage="AWSPREVIOUS")
        self.assertEqual(before["VersionId"], first["VersionId"])
        self.assertEqual(len(client.list_secret_version_ids(SecretId=arn)["Versions"]), 2)
        described = client.describe_secret(SecretId=arn)
        self.assertEqual(described["Tags"], [{"Key": "k", "Value": "v"}])
        self.assertEqual(len(described["VersionIdsToStages"]), 2)
        self.assertNotIn("ResourcePolicy", client.get_resource_policy(SecretId=arn))
        client.tag_resource(SecretId=arn, Tags=[{"Key": "x", "Value": "y"}])
        client.untag_resource(SecretId=arn, TagKeys=["k"])
        pages = client.get_paginator("list_secrets").paginate(PaginationConfig={"PageSize": 1})
        names = [secret["Name"] for page in pages for secret in page["SecretList"]]
        self.assertIn("team/one", names)
        self.assertEqual(len(client.get_random_password()["RandomPassword"]), 32)
        self.fails("ResourceExistsException", client.create_secret, Name="team/one")
        self.fails("ResourceNotFoundException", client.get_secret_value, SecretId="none")
        client.delete_secret(SecretId=arn)
        self.fails("InvalidRequestException", client.get_secret_value, SecretId=arn)
        client.restore_secret(SecretId=arn)

    def test_parameters_through_boto3(self):
        client = self.parameters
        for name in ("/p/a", "/p/b", "/p/c/d"):
            client.put_parameter(Name=name, Value=name, Type="String")
        self.addCleanup(client.delete_parameters, Names=["/p/a", "/p/b", "/p/c/d"])
        found = client.get_parameters(Names=["/p/a", "none"])
        self.assertEqual(found["InvalidParameters"], ["none"])
        pages = client.get_paginator("get_parameters_by_path").paginate(
            Path="/p", Recursive=True, PaginationConfig={"PageSize": 2})
        names = [one["Name"] for page in pages for one in page["Parameters"]]
        self.assertEqual(names, ["/p/a", "/p/b", "/p/c/d"])
        only = client.describe_parameters(
            ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": ["/p/b"]}])
        self.assertEqual([one["Name"] for one in only["Parameters"]], ["/p/b"])
        self.fails("ParameterNotFound", client.get_parameter, Name="none")
        self.fails("ParameterAlreadyExists", client.put_parameter, Name="/p/a", Value="x",
                   Type="String")

    def test_the_command_line_keeps_secrets(self):
        arn = self.ekiden.cli("secret", "set", "typed", input=VALUE + "\n").strip()
        self.addCleanup(self.ekiden.cli, "secret", "rm", "typed", "--now")
        self.assertIn(":secret:typed-", arn)
        self.assertIn("typed", self.ekiden.cli("secret", "ls"))
        self.assertNotIn(VALUE, self.ekiden.cli("secret", "show", "typed"))
        self.assertEqual(self.ekiden.cli("secret", "show", "typed", "--reveal").strip(), VALUE)
        self.ekiden.cli("deploy", "--name", "typing", "--image", images.web(),
                        "--secret", f"TYPED={arn}")
        service = self.ekiden.cli_json("describe", "typing")
        service = service.get("Service", service)
        self.addCleanup(self.remove, service["ServiceArn"])
        self.assertEqual(self.environment(service)["TYPED"], VALUE)


__all__ = ["Secrets", "settings"]
