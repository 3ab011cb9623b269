"""Terraform with the real AWS provider: every App Runner resource, from apply to destroy.

`terraform/companions` makes what services refer to, `terraform/apprunner` has the resources
themselves; its variable `phase` goes from making them (1) over changing what can be changed in place
(2) to replacing what cannot (3). Every run of Terraform costs seconds, so that each has many resources.
"""

import json
import pathlib
import re
import unittest

from support import host, images, settings, terraform
from support.case import EkidenCase
from support.moto import Moto

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLE = settings.ROOT / "examples/terraform"

ACCOUNT = "100000000001"
# Terraform takes only names of this shape; the configuration says where they really are.
ECR = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"
ECR_PUBLIC = "public.ecr.aws"
REPOSITORY = "https://github.com/example/shop"
HOSTED_ZONE = "Z01915732ZBZKC8D32TPT"

# What the provider takes from the answer to the creation only, so that it cannot be imported.
NOT_READ = {("custom_domain_association", "dns_target")}

# What a phase does to each resource; one that is not named here stays as it is.
REPLACED = "delete", "create"
REPLACED_LATE = "create", "delete"
UPDATED = ("update",)
IN_PLACE = {
    "auto_scaling_configuration_version.web": UPDATED,
    "default_auto_scaling_configuration_version.this": UPDATED,
    "connection.github": UPDATED,
    "observability_configuration.tracing": UPDATED,
    "vpc_connector.inner": UPDATED,
    "vpc_ingress_connection.inner": UPDATED,
    "service.web": UPDATED,
    "service.code": UPDATED,
}
REPLACEMENTS = {
    "auto_scaling_configuration_version.web": REPLACED_LATE,
    "default_auto_scaling_configuration_version.this": UPDATED,
    "connection.github": REPLACED_LATE,
    "observability_configuration.tracing": REPLACED_LATE,
    "vpc_connector.inner": REPLACED_LATE,
    "vpc_ingress_connection.inner": REPLACED,
    "service.inner": REPLACED,
    # What these use is replaced, so that they are updated.
    "service.web": UPDATED,
    "service.code": UPDATED,
    "custom_domain_association.www": REPLACED,
    "deployment.again[0]": REPLACED,
}


class TerraformCase(EkidenCase):
    # Of the configuration, beside where the images are; begins within the table `api`.
    configuration = ""

    @classmethod
    def setUpClass(cls):
        if lacking := terraform.lacking():
            raise unittest.SkipTest(
                f"TERRAFORM IS NOT TESTED HERE; not installed: {' and '.join(lacking)}")
        if not host.missing(*images.NEEDED):
            mirror = f'mirror = "http://{images.registry().address}"'
            tables = (f'[images.registries."{name}"]\n{mirror}\n' for name in (ECR, ECR_PUBLIC))
            cls.extra = cls.configuration + "".join(tables)
        super().setUpClass()

    def terraform(self, source, name):
        """Set up as `ekiden env` says."""
        variables = json.loads(self.ekiden.cli("env", "--output", "json"))
        environment = host.environment() | variables | {"HOME": str(self.ekiden.base)}
        return terraform.Terraform(source, self.ekiden.base / name, environment)

    def assert_settled(self, run):
        """The second plan is empty."""
        self.assertEqual(run.changes(), "")

    def assert_nothing_left(self):
        client = self.ekiden.client()
        left = {
            "services": client.list_services()["ServiceSummaryList"],
            "connections": client.list_connections()["ConnectionSummaryList"],
            "observability": client.list_observability_configurations(LatestOnly=False)
            ["ObservabilityConfigurationSummaryList"],
            "connectors": client.list_vpc_connectors()["VpcConnectors"],
            "ingress": client.list_vpc_ingress_connections()["VpcIngressConnectionSummaryList"],
            "scaling": [
                one for one in client.list_auto_scaling_configurations(LatestOnly=False)
                ["AutoScalingConfigurationSummaryList"]
                if one["AutoScalingConfigurationName"] != "DefaultConfiguration"],
            "instances": self.ekiden.living(),
        }
        self.assertEqual({kind: found for kind, found in left.items() if found}, {})


class EveryResource(TerraformCase):
    label = "tf"
    maxDiff = None
    configuration = ("automatic_connections = true\n"
                     f'[sources]\nprebuilt = ["{REPOSITORY}={ECR}/e2e/web:1"]\n')

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.moto = Moto(cls.ekiden.base / "moto.log")
        cls.addClassCleanup(cls.moto.close)
        images.web(2)
        cls.small = images.tiny("small").partition("/")[2]

    def test_every_resource_from_apply_to_destroy(self):
        companions = self.terraform(HERE / "terraform/companions", "companions")
        companions.variables(ekiden=self.ekiden.endpoint, moto=self.moto.endpoint)
        companions.apply()
        self.run_ = run = self.terraform(HERE / "terraform/apprunner", "apprunner")
        run.variables(
            ekiden=self.ekiden.endpoint, companions=companions.outputs(), repository=REPOSITORY,
            images=[f"{ECR}/e2e/web:{build}" for build in (1, 2)],
            small_image=f"{ECR_PUBLIC}/{self.small}")

        self.phase(1, None)
        self.assertEqual(run.outputs()["hosted_zone_id"], HOSTED_ZONE)
        self.serves("first", {"PASSWORD": "open sesame"})
        self.phase(2, IN_PLACE)
        self.serves("second", {"PASSWORD": "open sesame", "FLAG": "raised"})
        self.phase(3, REPLACEMENTS)
        self.serves("second", {"PASSWORD": "open sesame", "FLAG": "raised"})
        self.imports()

        run.destroy()
        self.assertEqual(run.state(), {})
        # The rest is moto's, and goes with it.
        companions.destroy("-target=aws_secretsmanager_secret_version.password",
                           "-target=aws_secretsmanager_secret.password",
                           "-target=aws_ssm_parameter.flag")
        self.assert_nothing_left()

    def phase(self, number, expected):
        """Goes to a phase, which must change what is expected, and settles it in one run."""
        run = self.run_
        run.variables(phase=number)
        run.run("plan", "-out=next.plan")
        if expected is not None:
            planned = json.loads(run.run("show", "-json", "next.plan"))["resource_changes"]
            changes = {change["address"].removeprefix("aws_apprunner_"):
                       tuple(change["change"]["actions"]) for change in planned
                       if change["mode"] == "managed"
                       and change["change"]["actions"] != ["no-op"]}
            self.assertEqual(changes, expected)
        run.run("apply", "next.plan")
        self.assert_settled(run)

    def serves(self, word, secrets):
        """What was configured is what runs."""
        urls = self.run_.outputs()["services"]
        for service in ("web", "code"):
            self.assertEqual(self.ekiden.whoami(urls[service])["greeting"], word)
        status, _, body = self.ekiden.get(urls["web"], "/env")
        self.assertEqual(status, 200, body)
        variables = json.loads(body)
        self.assertEqual({name: variables.get(name) for name in secrets}, secrets)
        status, _, body = self.ekiden.get(urls["plain"])
        self.assertEqual(status, 200, body)

    def imports(self):
        """A state made by importing equals the one made by applying."""
        run = self.run_
        # What another resource's change has brought about is not in the state yet.
        run.apply("-refresh-only")
        applied = run.state()
        deployments = {name for name in applied if name.startswith("aws_apprunner_deployment.")}
        self.assertTrue(deployments)
        run.variables(deployment=False)
        state = "-state=imported.tfstate"
        names = sorted(applied.keys() - deployments)
        # One by the command, the others by blocks: the provider is asked the same either way.
        first = "aws_apprunner_service.web"
        run.run("import", state, first, applied[first]["id"])
        blocks = run.directory / "imports.tf"
        blocks.write_text("".join(
            f'import {{\n  to = {name}\n  id = "{identity(name, applied[name])}"\n}}\n'
            for name in names if name != first))
        said = run.apply(state)
        self.assertRegex(said, rf"{len(names) - 1} imported, 0 added, 0 changed, 0 destroyed")
        blocks.unlink()
        run.variables(deployment=True)
        imported = run.state("imported.tfstate")
        different = {
            (name, key): (imported[name][key], value) for name in names
            for key, value in applied[name].items()
            if imported[name][key] != value and (kind(name), key) not in NOT_READ}
        self.assertEqual(different, {})


def kind(address):
    return address.split(".")[0].removeprefix("aws_apprunner_")


def identity(address, attributes):
    """What a resource is imported by."""
    if kind(address) == "custom_domain_association":
        return f"{attributes['domain_name']},{attributes['service_arn']}"
    return attributes["id"]


class Example(TerraformCase):
    """The configuration that the documentation shows."""

    label = "tfex"

    def test_the_example_works_as_it_is(self):
        run = self.terraform(EXAMPLE, "example")
        images.web(2)
        run.variables(image=f"{ECR}/e2e/web:1", greeting="Hello")
        run.apply()
        self.assert_settled(run)
        url = run.outputs()["service_url"]
        self.assertEqual(self.ekiden.whoami(re.sub("^https?://", "", url))["greeting"], "Hello")
        run.variables(image=f"{ECR}/e2e/web:2", greeting="Hello again")
        run.apply()
        self.assert_settled(run)
        me = self.ekiden.whoami(re.sub("^https?://", "", url))
        self.assertEqual((me["greeting"], me["build"]), ("Hello again", "2"))
        run.destroy()
        self.assert_nothing_left()
