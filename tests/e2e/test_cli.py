"""The command line, verb by verb, as a person meets it."""

import json
import pathlib
import subprocess
import tempfile

from support import host, images, oci, settings
from support.case import EkidenCase
from support.wait import until


class CommandLine(EkidenCase):
    label = "cli"

    def cli(self, *arguments):
        return self.ekiden.cli(*arguments)

    def fails(self, *arguments):
        """What a command that must fail says."""
        done = self.ekiden.cli(*arguments, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn("error: ", done.stderr)
        return done.stderr

    def deployed(self, name, *more):
        self.cli("deploy", "--name", name, "--image", images.web(), *more)
        described = self.ekiden.cli_json("describe", name)
        service = described.get("Service", described)
        self.addCleanup(self.remove, service["ServiceArn"])
        return service

    def test_a_service_from_deploy_to_delete(self):
        service = self.deployed("walk", "--port", "8080", "--env", "GREETING=walked",
                                "--health-path", "/health")
        self.assertEqual(service["Status"], "RUNNING")
        self.assertEqual(self.ekiden.whoami(service)["greeting"], "walked")
        self.cli("deploy", "--name", "walk", "--image", images.web(), "--env", "GREETING=again")
        self.assertEqual(self.ekiden.whoami(service)["revision"], "2")
        self.assertIn("walk", self.cli("ps"))
        self.assertIn("RUNNING", self.cli("ps"))
        self.assertIn("walk", json.dumps(self.ekiden.cli_json("ps")))
        self.assertIn(service["ServiceUrl"], self.cli("describe", "walk"))
        self.assertIn("listening", self.cli("logs", "walk"))
        self.cli("pause", "walk")
        self.assertEqual(self.status(service["ServiceArn"]), "PAUSED")
        self.cli("resume", "walk")
        self.assertEqual(self.status(service["ServiceArn"]), "RUNNING")
        self.cli("delete", "walk")
        until("deleted", lambda: self.status(service["ServiceArn"]) == "DELETED")

    def test_a_deployment_that_fails_says_why(self):
        said = self.fails("deploy", "--name", "failing", "--image", images.web(),
                          "--env", "BROKEN=exit")
        arn = self.arn("failing")
        self.addCleanup(self.remove, arn)
        self.assertIn("exited with code 3", said)
        self.assertIn("cannot find the configuration", said)

    def arn(self, name):
        services = self.ekiden.client().list_services()["ServiceSummaryList"]
        return next(s["ServiceArn"] for s in services if s["ServiceName"] == name)

    def test_logs_follow(self):
        service = self.deployed("logs-1")
        follow = subprocess.Popen(
            [settings.BINARY, "logs", "--follow", "logs-1", "--config", self.ekiden.config],
            stdout=subprocess.PIPE, text=True, env=host.environment())
        self.addCleanup(follow.stdout.close)
        self.addCleanup(follow.wait)
        self.addCleanup(follow.kill)
        self.answers(service, "/log?lines=3&text=followed")
        for line in follow.stdout:
            if "followed 2" in line:
                break
        else:
            self.fail("the logs ended before the line came")

    def test_images(self):
        image = oci.Image([oci.busybox_layer(oci.entry("mark", data=b"cli"))])
        with tempfile.TemporaryDirectory() as directory:
            archive = image.archive(pathlib.Path(directory) / "image.tar")
            self.cli("image", "import", str(archive), "localhost/walk/tiny:1")
            self.assertIn("localhost/walk/tiny:1", self.cli("image", "ls"))
            exported = pathlib.Path(directory) / "again.tar"
            self.cli("image", "export", "localhost/walk/tiny:1", str(exported))
            self.assertGreater(exported.stat().st_size, 0)
            service = self.running("imported", "localhost/walk/tiny:1")
            self.assertEqual(self.ekiden.get(service)[2], b"busybox\n")
            self.fails("image", "rm", "localhost/walk/tiny:1")
            self.ekiden.delete(service["ServiceArn"])
            self.cli("image", "rm", "localhost/walk/tiny:1")
            self.assertNotIn("localhost/walk/tiny:1", self.cli("image", "ls"))
            broken = pathlib.Path(directory) / "broken.tar"
            broken.write_bytes(b"no archive at all")
            self.fails("image", "import", str(broken), "localhost/walk/broken:1")

    def test_doctor_env_and_status(self):
        self.assertIsInstance(self.ekiden.cli_json("doctor"), (list, dict))
        exports = self.cli("env")
        self.assertIn(f"AWS_ENDPOINT_URL=http://127.0.0.1:{self.ekiden.api_port}",
                      exports.replace('"', "").replace("'", ""))
        self.assertIn(self.ekiden.key()["secret_access_key"], exports)
        status = self.ekiden.cli_json("status")
        roles = status.get("roles") or status["supervisor"]["roles"]
        self.assertEqual({r["role"] for r in roles}, {"edge", "control", "agent"})
        self.assertIn("ready", self.cli("status"))

    def test_what_is_not_there_is_named(self):
        for arguments in (("describe", "nobody"), ("logs", "nobody"), ("pause", "nobody"),
                          ("delete", "nobody")):
            self.assertIn("nobody", self.fails(*arguments))
        self.assertIn("localhost/none", self.fails("image", "rm", "localhost/none:1"))
