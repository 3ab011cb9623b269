"""Everything is killed at once, and started again: each service returns to what it was."""

from support import host, images
from support.case import EkidenCase
from support.server import FINAL, http_health
from support.wait import until


class PowerCut(EkidenCase):
    label = "cut"

    def test_everything_returns_without_a_call(self):
        client = self.ekiden.client()
        plain = self.running("cut-plain", env={"GREETING": "plain"})
        newer = self.running("cut-newer", health=http_health())
        self.succeeds(newer["ServiceArn"],
                      self.update_image(newer["ServiceArn"], images.web(2), env={"GREETING": "2"}))
        paused = self.running("cut-paused")
        self.succeeds(paused["ServiceArn"],
                      client.pause_service(ServiceArn=paused["ServiceArn"])["OperationId"])
        failed = self.service("cut-failed", env={"BROKEN": "exit"})
        deployed = self.running("cut-deployed", env={"GREETING": "old"})
        key = self.ekiden.key()
        # These two are accepted, and the power goes before they can be over.
        creating = self.ekiden.create("cut-creating", images.web(), wait=False,
                                      env={"BROKEN": "slow-start"})
        self.addCleanup(self.remove, creating["ServiceArn"])
        operation = self.update_image(
            deployed["ServiceArn"], images.web(), env={"BROKEN": "slow-start", "GREETING": "new"})

        self.ekiden.kill_all()
        self.assertEqual(self.ekiden.processes(), [])
        self.ekiden.start()

        self.assertEqual(self.ekiden.key(), key)
        for service, greeting, revision in ((plain, "plain", "1"), (newer, "2", "2")):
            self.comes_back(service)
            me = self.ekiden.whoami(service)
            self.assertEqual((me["greeting"], me["revision"]), (greeting, revision))
        self.assertEqual(self.status(paused["ServiceArn"]), "PAUSED")
        self.assertEqual(self.status(failed["ServiceArn"]), "CREATE_FAILED")
        self.assertEqual(self.ekiden.get(paused)[0], 503)

        self.succeeds(deployed["ServiceArn"], operation)
        self.assertEqual(self.ekiden.whoami(deployed)["greeting"], "new")
        until("over: the create", lambda: self.ekiden.operation(creating["ServiceArn"])["Status"]
              in FINAL, 120, self.ekiden.tail)
        self.assertEqual(self.status(creating["ServiceArn"]), "RUNNING")
        self.comes_back(creating)
        running = {i["ServiceName"] for i in self.ekiden.instances() if i["Status"] == "RUNNING"}
        self.assertEqual(running, {"cut-plain", "cut-newer", "cut-deployed", "cut-creating"})
        self.no_strays()

    def test_a_cut_right_after_an_answer_loses_nothing_of_it(self):
        service = self.ekiden.create("cut-at-once", images.web(), wait=False)
        self.ekiden.kill_all()
        self.ekiden.start()
        arn = service["ServiceArn"]
        self.addCleanup(self.remove, arn)
        until("running", lambda: self.status(arn) == "RUNNING", 120, self.ekiden.tail)
        self.comes_back(service)
        answer = self.ekiden.client().delete_service(ServiceArn=arn)
        self.ekiden.kill_all()
        self.ekiden.start()
        self.succeeds(arn, answer["OperationId"])
        self.assertEqual(self.ekiden.get(service)[0], 404)
        self.no_strays()

    def comes_back(self, service):
        until("answering again", lambda: self.ekiden.get(service, "/health")[0] == 200, 60,
              self.ekiden.tail)

    def no_strays(self):
        """As many shims, links and groups as instances, and not one more."""
        def tidy():
            instances = {i["InstanceId"] for i in self.ekiden.living()}
            links = len(host.links(self.ekiden.name)) - 1  # without the bridge
            shims = [p for p in self.ekiden.processes() if p.argv[1:] == ["shim"]]
            return (set(self.ekiden.shims()) == instances and links == len(instances)
                    and len(shims) == len(instances))

        until("tidy", tidy, 60, lambda: f"{self.ekiden.shims()} {host.links(self.ekiden.name)} "
                                        f"{self.ekiden.instances_text()}")
