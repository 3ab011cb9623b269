"""Images, registries and applications that are wrong in every way they can be.

Each test: the operation says what is wrong, a second service keeps answering meanwhile without a
failed request, and nothing is left behind.
"""

import contextlib
import gzip
import io
import itertools
import json
import pathlib
import tarfile
import tempfile

from support import failures, images, oci
from support.case import EkidenCase
from support.census import census, settled
from support.registry import BrokenRegistry
from support.server import service_request
from support.wait import until

GIB = 1 << 30


class BadInput(EkidenCase):
    label = "bad"
    numbers = itertools.count()
    # An application has less time here than the default five minutes, so that tests end.
    extra = '[service]\nstart_limit = "6s"\nstop_grace = "2s"'

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.healthy = cls.ekiden.create("healthy", images.web())
        assert cls.healthy["Status"] == "RUNNING", cls.healthy
        # What is made once and kept: connections, pools.
        spare = cls.ekiden.create("spare", images.tiny())
        cls.ekiden.delete(spare["ServiceArn"])
        # A registry that hangs is given up only after minutes: the other tests run meanwhile.
        hanging = oci.Image([oci.busybox_layer(oci.entry("hanging", data=b"hanging"))])
        hangs = cls.enterClassContext(BrokenRegistry(hanging, "blob", "hang"))
        cls.hanging = cls.ekiden.create("hanging", hangs.reference, wait=False)

    def setUp(self):
        self.before = census(self.ekiden)

    def failing(self, image, *sentences, logs=(), told=True, **more):
        """Creating a service of it fails and says so, and hurts nobody; the operation."""
        with self.under_load(self.healthy, rate=30, large=1):
            operation = self.fails(image, told=told, **more)
        for sentence in sentences:
            self.assertIn(sentence.lower(), operation["Failure"]["Reason"].lower())
        for line in logs:
            self.assertIn(line, "\n".join(operation["Failure"]["LogLines"]))
        self.nothing_leaks()
        return operation

    def fails(self, image, told=True, **more):
        name = f"bad-{next(self.numbers)}"
        service = self.ekiden.create(name, image, wait=False, **more)
        self.addCleanup(self.remove, service["ServiceArn"])
        return self.failed(service, told=told)

    def failed(self, service, seconds=120, told=True):
        """The operation that created it, which must fail; the service is deleted."""
        arn = service["ServiceArn"]
        operation = self.ekiden.wait_operation(arn, None, seconds)
        self.assertEqual(operation["Status"], "FAILED", operation)
        self.assertEqual(self.status(arn), "CREATE_FAILED")
        self.assertTrue(operation["Failure"]["Step"])
        print(f"    {operation['Failure']['Reason']}", flush=True)
        self.read_everywhere(service, operation["Failure"], told)
        self.ekiden.delete(arn)
        return operation

    def read_everywhere(self, service, failure, told):
        """The command line, the API and the log of the service say the same; `told` when it is always the same."""
        shown = self.rows(service["ServiceName"])
        hint = failure.get("Hint")
        self.assertEqual(shown["reason"], f"{failure['Reason']} (at \"{failure['Step']}\")")
        self.assertEqual(shown.get("hint"), hint)
        log = self.said(service, "Reason: ")
        as_sentences = [text[0].upper() + text[1:].removesuffix(".") + "." for text in (failure["Reason"], hint) if text]
        self.assertEqual(log, "[AppRunner] Reason: " + " ".join(as_sentences))
        if told:
            joined = [f"reason {shown['reason']}", *([f"hint {hint}"] if hint else [])]
            api = [f"Reason: {failure['Reason']}", *([f"Hint: {hint}"] if hint else [])]
            failures.note(self, self.item(), "; ".join(joined), "; ".join(api), log)

    def item(self):
        return self._testMethodName.removeprefix("test_").replace("_", " ").capitalize()

    def rows(self, name):
        """What `ekiden describe` says, by its keys."""
        pairs = (line.split(maxsplit=1) for line in self.ekiden.cli("describe", name).splitlines())
        return dict(reversed([pair for pair in pairs if len(pair) == 2]))

    def said(self, service, text):
        """The first line of the service's log with a text."""
        group = f"/aws/apprunner/{service['ServiceName']}/{service['ServiceId']}/service"
        logs = self.ekiden.client("logs")

        def found():
            with contextlib.suppress(logs.exceptions.ResourceNotFoundException):
                return logs.filter_log_events(
                    logGroupName=group, logStreamNames=["events"], filterPattern=f'"{text}"')["events"]
        return until(f"the log says: {text}", found, 30, self.ekiden.tail)[0]["message"]

    def nothing_leaks(self):
        # An image stays, as a cache within its budget.
        settled(self.ekiden, self.before, ignore=["files in data/agent/images"])

    # ---- images

    def image(self, *entries, **more):
        """An image with content of its own: one that is there already would not be fetched."""
        mark = oci.entry("mark", data=self.id().encode())
        return oci.Image([oci.busybox_layer(mark, *entries)], **more)

    def served(self, image, stage="none", mode="none", times=None):
        broken = BrokenRegistry(image, stage, mode, times)
        self.enterContext(broken)
        return broken.reference

    def test_an_image_that_does_not_exist(self):
        self.failing(f"{images.registry().address}/e2e/none:1", "e2e/none:1", "not found")

    def test_a_tag_that_does_not_exist(self):
        name, _, _ = images.tiny().rpartition(":")
        self.failing(f"{name}:2", "not found")

    def test_a_registry_that_does_not_exist(self):
        self.failing("127.0.0.1:1/e2e/none:1", "127.0.0.1:1", "cannot be reached")

    def test_a_local_image_that_was_never_imported(self):
        self.failing("localhost/none:1", "localhost/none:1")

    def test_an_image_for_another_platform(self):
        image = self.image(architecture="s390x")
        self.failing(self.served(image), "nothing for `linux/amd64`", "linux/s390x")

    def test_an_index_without_this_platform(self):
        image = self.image(architecture="arm64")
        platforms = [{"architecture": "arm64", "os": "linux", "variant": "v8"},
                     {"architecture": "s390x", "os": "linux"}]
        entries = [{**image.manifest, "platform": platform} for platform in platforms]
        image.manifest = image.add(oci.INDEX, oci.as_json(
            {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries}))
        self.failing(self.served(image), "nothing for `linux/amd64`", "linux/s390x", "linux/arm64")

    def test_a_corrupt_layer(self):
        image = self.image()
        name = image.layers[0]["digest"]
        blob = bytearray(image.blobs[name])
        blob[len(blob) // 2] ^= 1
        image.blobs[name] = bytes(blob)
        self.failing(self.served(image), "layer")

    def test_a_layer_that_is_not_what_the_configuration_says(self):
        image = self.image(diff_ids=["sha256:" + "0" * 64])
        self.failing(self.served(image), "corrupt")

    def test_a_manifest_that_is_none(self):
        image = self.image()
        image.manifest = image.add(oci.MANIFEST, b"[1, 2")
        self.failing(self.served(image), "not usable")

    def hostile(self, *entries):
        """A layer with these entries after ordinary ones."""
        return self.served(self.image(*entries))

    def test_a_path_out_of_the_layer(self):
        self.failing(self.hostile(oci.entry("../../../../ekiden-e2e-escape", data=b"x")),
                     "refused", "`..`")

    def test_a_link_out_of_the_layer(self):
        """Links are the image's own business; what they point to is looked up inside of it."""
        target = pathlib.Path(tempfile.mkdtemp(prefix="ekiden-e2e-target-"))
        self.addCleanup(target.rmdir)
        image = self.hostile(
            oci.entry("door", tarfile.SYMTYPE, link=str(target)),
            oci.entry("door/ekiden-e2e-escape", data=b"x"),
            oci.entry("up", tarfile.SYMTYPE, link="../../../../../../../../" + str(target)),
            oci.entry("up/ekiden-e2e-escape", data=b"x"),
        )
        service = self.ekiden.create("linked", image)
        self.ekiden.delete(service["ServiceArn"])
        self.assertEqual(list(target.iterdir()), [], f"the host was written to: {service}")

    def test_a_hard_link_out_of_the_layer(self):
        self.failing(self.hostile(oci.entry("shadow", tarfile.LNKTYPE, link="../../../etc/shadow")),
                     "refused")

    def test_a_hard_link_to_what_is_not_there(self):
        self.failing(self.hostile(oci.entry("shadow", tarfile.LNKTYPE, link="etc/shadow")),
                     "refused", "shadow")

    def test_a_device(self):
        disk = oci.entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=0)
        self.failing(self.hostile(disk), "refused", "device")

    def test_a_truncated_layer(self):
        image = self.image()
        half = image.blobs[image.layers[0]["digest"]][:200_000]
        bad = image.add(oci.LAYER, half)
        image.manifest = image.add(oci.MANIFEST, oci.as_json({
            "schemaVersion": 2, "mediaType": oci.MANIFEST,
            "config": {"mediaType": oci.CONFIG, "digest": self.config_of(image),
                       "size": len(image.blobs[self.config_of(image)])}, "layers": [bad]}))
        self.failing(self.served(image), "layer")

    def config_of(self, image):
        return json.loads(image.blobs[image.manifest["digest"]])["config"]["digest"]

    def test_a_zip_bomb(self):
        """A file of 64 GiB of zeros: the archive is 64 times the same compressed member."""
        info = tarfile.TarInfo("zeros")
        info.size = 64 * GIB
        head = gzip.compress(info.tobuf(tarfile.GNU_FORMAT))
        buffer = io.BytesIO()
        with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9) as member:
            for _ in range(64):
                member.write(bytes(1 << 20))
        bomb = head + buffer.getvalue() * (64 * 16)
        image = self.image()
        layer = image.add(oci.LAYER, bomb)
        config = self.config_of(image)
        image.manifest = image.add(oci.MANIFEST, oci.as_json({
            "schemaVersion": 2, "mediaType": oci.MANIFEST,
            "config": {"mediaType": oci.CONFIG, "digest": config,
                       "size": len(image.blobs[config])}, "layers": [layer]}))
        self.failing(self.served(image), "layer")

    # ---- registries

    def test_a_registry_that_wants_a_password(self):
        self.failing(self.served(self.image(), "manifest", "401"), "401")

    def test_a_registry_that_is_always_busy(self):
        self.failing(self.served(self.image(), "manifest", "429"), "429")

    def test_a_registry_that_always_fails(self):
        self.failing(self.served(self.image(), "blob", "500"), "500")

    def test_a_registry_that_closes_in_the_middle(self):
        self.failing(self.served(self.image(), "blob", "close"), "registry")

    def test_a_registry_that_hangs_half_way(self):
        operation = self.failed(self.hanging, seconds=300)
        self.assertIn("stopped answering", operation["Failure"]["Reason"])

    def test_a_registry_that_fails_for_a_moment_is_asked_again(self):
        for stage, mode in (("manifest", "500"), ("blob", "close"), ("blob", "429")):
            with self.subTest(stage=stage, mode=mode):
                image = self.image(oci.entry(f"{stage}-{mode}", data=mode.encode()))
                service = self.ekiden.create("retried", self.served(image, stage, mode, times=1))
                operation = self.ekiden.operation(service["ServiceArn"])
                self.ekiden.delete(service["ServiceArn"])
                self.assertEqual(service["Status"], "RUNNING", operation)

    # ---- applications

    def failing_app(self, command, *sentences, **more):
        return self.failing(images.tiny(), *sentences, command=command, **more)

    def test_a_start_command_that_does_not_exist(self):
        self.failing_app("/bin/not-there --flag", "could not be started", "/bin/not-there")

    def test_a_start_command_that_is_no_program(self):
        self.failing_app("/etc/passwd", "could not be started", "/etc/passwd")

    def test_an_app_that_ends_at_once_with_success(self):
        operation = self.failing_app("true", "exited with code 0")
        self.assertIn("foreground", operation["Failure"]["Hint"])

    def test_an_app_that_fails_after_a_while(self):
        self.failing_app("sh -c 'echo out of luck; sleep 0.3; exit 1'", "exited with code 1",
                         logs=["out of luck"])

    def test_an_app_that_listens_on_another_port(self):
        self.failing_app("httpd -f -p 8081 -h /www", "port 8080", "did not pass within 6 s")

    def test_an_app_that_listens_on_localhost_only(self):
        self.failing_app("httpd -f -p 127.0.0.1:8080 -h /www", "port 8080",
                         "did not pass within 6 s")

    def test_an_app_that_never_listens(self):
        self.failing_app("sleep 1000", "port 8080", "did not pass within 6 s")

    def test_an_app_whose_health_check_fails(self):
        health = {"Protocol": "HTTP", "Path": "/none", "Interval": 1, "Timeout": 1,
                  "HealthyThreshold": 1, "UnhealthyThreshold": 2}
        self.failing(images.tiny(), "404", "did not pass within 6 s", health=health)

    def test_an_app_that_eats_all_memory(self):
        self.failing_app("sh -c 'tail /dev/zero'", "memory", memory="0.5 GB", cpu="0.25 vCPU")

    def test_an_app_that_forks_without_end(self):
        """It stays within its limit of processes, and the healthy service does not notice."""
        operation = self.failing_app("sh -c 'while true; do sleep 1000 & done'", told=False)
        # A shell that cannot fork any more exits with 2; a slow one is still at it in the end.
        self.assertRegex(operation["Failure"]["Reason"],
                         "exited with code 2|port 8080 did not pass within 6 s")

    def runs(self, command, act=lambda service: None, **more):
        """An application that misbehaves and yet serves: nobody else notices."""
        with self.under_load(self.healthy, rate=30, large=1):
            service = self.ekiden.create("odd-one", images.tiny(), command=command, **more)
            arn = service["ServiceArn"]
            try:
                self.assertEqual(service["Status"], "RUNNING", self.ekiden.operation(arn))
                act(service)
            finally:
                self.ekiden.delete(arn)
        self.nothing_leaks()

    def test_an_app_that_ignores_the_stop_signal(self):
        self.runs("""sh -c 'trap "" TERM; httpd -f -p 8080 -h /www & while true; do wait; done'""")

    def test_an_app_that_logs_without_end(self):
        self.runs("sh -c 'yes a line of some length that is written again and again & "
                  "exec httpd -f -p 8080 -h /www'", self.logs_are_bounded)

    def test_an_app_that_logs_without_a_newline(self):
        self.runs("sh -c 'tr \"\\0\" x < /dev/zero & exec httpd -f -p 8080 -h /www'",
                  self.logs_are_bounded)

    def logs_are_bounded(self, service):
        arn = service["ServiceArn"]
        lines = until("lines are stored", lambda: self.ekiden.logs(arn, MaxLines=1000), 30)
        self.assertLessEqual(max(map(len, lines)), 16 * 1024)
        logs = self.ekiden.data / "agent/logs" / service["ServiceId"]
        size = sum(file.stat().st_size for file in logs.rglob("*") if file.is_file())
        self.assertLess(size, 64 << 20)

    def test_an_app_that_fills_its_disk(self):
        """It may write what its limit allows, and is ended when it writes on."""
        self.runs("sh -c 'dd if=/dev/zero of=/fill bs=1M count=4000 & "
                  "exec httpd -f -p 8080 -h /www'", self.is_ended_for_its_disk)

    def is_ended_for_its_disk(self, service):
        def ended():
            instances = self.ekiden.instances(service["ServiceArn"])
            return any("disk limit" in i.get("Reason", "") for i in instances)

        arn = service["ServiceArn"]
        until("ended for its disk", ended, 120, lambda: self.ekiden.instances_text(arn))
        log = self.said(service, "disk limit")
        reason = next(i["Reason"] for i in self.ekiden.instances(arn) if "disk limit" in i.get("Reason", ""))
        self.assertIn(reason, self.ekiden.cli("describe", "odd-one"))
        failures.note(self, self.item(), reason, f"Reason: {reason}", log)

    # ---- requests

    def test_a_reference_that_is_none(self):
        client = self.ekiden.client()
        for reference in ("UPPER/case", "a b", "localhost/x@sha256:12", "../etc"):
            with self.assertRaises(client.exceptions.InvalidRequestException, msg=reference):
                client.create_service(**service_request("bad-one", reference))
