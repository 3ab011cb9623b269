"""Deployments in a row under steady load lose no request."""

import concurrent.futures

from support import images
from support.case import EkidenCase, settings
from support.wait import until


class Deployments(EkidenCase):
    label = "roll"

    def test_deployments_in_a_row_lose_no_request(self):
        service, other = self.running("roll-1"), self.running("roll-2")
        arn = service["ServiceArn"]
        images.web(2)
        with self.under_load(service, other):
            for number in range(settings.DEPLOYMENTS):
                self.succeeds(arn, self.deploy(arn, number))
        me = self.ekiden.whoami(service)
        self.assertEqual(me["revision"], str(settings.DEPLOYMENTS + 1))
        until("left with one instance", lambda: len(self.ekiden.living(arn)) == 1, 60,
              lambda: self.ekiden.instances_text(arn))

    def deploy(self, arn, number):
        """Each third is another image, another environment, the same again."""
        if number % 3 == 0:
            return self.update_image(arn, images.web(number % 2 + 1))
        if number % 3 == 1:
            return self.update_image(arn, images.web(), env={"GREETING": f"number {number}"})
        return self.ekiden.client().start_deployment(ServiceArn=arn)["OperationId"]

    def test_a_request_that_is_on_its_way_is_answered_by_the_old_instance(self):
        service = self.running("roll-3")
        arn = service["ServiceArn"]
        old = self.ekiden.whoami(service)["instance"]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            slow = [pool.submit(self.ekiden.get, service, "/slow?ms=4000") for _ in range(8)]
            operation = self.ekiden.client().start_deployment(ServiceArn=arn)["OperationId"]
            self.succeeds(arn, operation)
            answers = [future.result() for future in slow]
        self.assertEqual([status for status, _, _ in answers], [200] * 8)
        self.assertIn(old, {headers["x-instance"] for _, headers, _ in answers})
        self.assertNotEqual(self.ekiden.whoami(service)["instance"], old)
