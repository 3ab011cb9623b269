"""The test case that has an Ekiden of its own."""

import contextlib
import os
import unittest

from . import host, images, settings
from .load import Load, failures_text, figures
from .server import Ekiden, service_request
from .wait import until


class EkidenCase(unittest.TestCase):
    """One Ekiden for all tests of a class; each test deletes the services it makes."""

    maxDiff = None
    label = "test"
    prefix = 24
    extra = ""

    @staticmethod
    def check_host():
        """Skips where no Ekiden can run."""
        if os.geteuid() != 0:
            raise unittest.SkipTest("needs root: namespaces, control groups and networks are made")
        if lacking := host.missing(*images.NEEDED):
            raise unittest.SkipTest(f"not installed: {', '.join(lacking)}")

    @classmethod
    def setUpClass(cls):
        cls.check_host()
        images.web()
        cls.start_ekiden()

    @classmethod
    def start_ekiden(cls):
        cls.check_host()
        cls.ekiden = Ekiden(cls.label, cls.prefix, cls.extra)
        cls.addClassCleanup(cls.ekiden.teardown)
        cls.ekiden.start()

    def run(self, result=None):
        before = len(result.failures) + len(result.errors) if result else 0
        super().run(result)
        ekiden = getattr(self, "ekiden", None)
        if ekiden and result and len(result.failures) + len(result.errors) > before:
            print(ekiden.tail(), flush=True)
            with contextlib.suppress(Exception):
                print("--- instances\n" + ekiden.instances_text(), flush=True)

    def service(self, name, image=None, **more):
        """A service that is deleted after the test, whatever becomes of it."""
        service = self.ekiden.create(name, image or images.web(), **more)
        self.addCleanup(self.remove, service["ServiceArn"])
        return service

    def running(self, name, image=None, **more):
        """A service that runs."""
        service = self.service(name, image, **more)
        if service["Status"] != "RUNNING":
            arn = service["ServiceArn"]
            self.fail(f"{name} is {service['Status']}: {self.ekiden.operation(arn)}")
        return service

    def remove(self, arn):
        """Deletes a service and waits for the end of it; one that is gone already is fine."""
        client = self.ekiden.client()
        until("no operation goes on", lambda: self.status(arn) != "OPERATION_IN_PROGRESS", 120)
        if self.status(arn) != "DELETED":
            self.ekiden.wait_operation(arn, client.delete_service(ServiceArn=arn)["OperationId"])

    def status(self, arn):
        return self.ekiden.client().describe_service(ServiceArn=arn)["Service"]["Status"]

    def succeeds(self, arn, operation):
        """Waits for an operation; anything but success fails the test with its reason."""
        over = self.ekiden.wait_operation(arn, operation)
        self.assertEqual(over["Status"], "SUCCEEDED", over)
        return over

    def update_image(self, arn, image, **more):
        """Updates a service's image and configuration; the operation's id."""
        source = service_request("unused", image, **more)["SourceConfiguration"]
        answer = self.ekiden.client().update_service(ServiceArn=arn, SourceConfiguration=source)
        return answer["OperationId"]

    def answers(self, service, path="/health"):
        status, headers, body = self.ekiden.get(service, path)
        self.assertEqual(status, 200, (headers, body))
        return headers, body

    @contextlib.contextmanager
    def under_load(self, *services, **options):
        """Load that must not lose a request."""
        with Load(self.ekiden, *services, **options) as load:
            yield load
            summary = load.end()
        print("    " + figures(summary), flush=True)
        self.assertEqual(summary["failed"], 0, failures_text(summary))
        self.assertGreater(summary["succeeded"], 0)


__all__ = ["EkidenCase", "settings"]
