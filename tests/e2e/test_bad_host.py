"""A host that lacks something, a second server, a full disk."""

import os
import shutil
import signal
import subprocess
import unittest

import botocore.exceptions

from support import failures, host, images, settings
from support.case import EkidenCase
from support.server import Ekiden, service_request
from support.wait import until


class SecondServer(EkidenCase):
    label = "twice"

    def test_a_second_server_on_the_same_data_is_refused(self):
        service = self.running("first")
        second = subprocess.run(
            [settings.BINARY, "server", "--config", self.ekiden.config,
             "--set", f"edge.listen=127.0.0.1:{host.free_port()}",
             "--set", "edge.listen_tls=",
             "--set", f"api.listen=127.0.0.1:{host.free_port()}",
             "--set", f"run_dir={self.ekiden.base}/run2", "--set", "log.file=/dev/stderr"],
            capture_output=True, text=True, timeout=60, env=host.environment())
        self.assertNotEqual(second.returncode, 0)
        said = second.stderr + second.stdout
        self.assertIn(str(self.ekiden.pid("supervisor")), said)
        self.assertIn(str(self.ekiden.data), said)
        failures.note_host(self, "A second server on the same data", "standard error of `ekiden server`",
                           said.replace(str(self.ekiden.pid("supervisor")), "…").replace(str(self.ekiden.data), "/var/lib/ekiden"))
        self.answers(service)


class FullDisk(EkidenCase):
    label = "full"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ekiden.stop()
        cls.directory = cls.ekiden.data / "control"
        kept = {f.name: f.read_bytes() for f in cls.directory.iterdir() if f.is_file()}
        owner = cls.directory.stat()
        host.run("mount", "-t", "tmpfs", "-o",
                 f"size=16m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}", "e2e", cls.directory)
        cls.addClassCleanup(cls.unmount)
        for name, content in kept.items():
            path = cls.directory / name
            path.write_bytes(content)
            os.chown(path, owner.st_uid, owner.st_gid)
            path.chmod(0o600)
        cls.ekiden.start()

    @classmethod
    def unmount(cls):
        cls.ekiden.stop()
        host.run("umount", cls.directory)

    def test_a_full_disk_under_the_database_is_told_and_passes(self):
        service = self.running("before-full")
        filler = self.directory / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                pass
        client = self.ekiden.client()
        with self.under_load(service, rate=50):
            refused = None
            # Pages that the database has already may hold some more services.
            for number in range(200):
                try:
                    made = client.create_service(**service_request(f"full-{number}", images.web()))
                    self.addCleanup(self.remove, made["Service"]["ServiceArn"])
                except botocore.exceptions.ClientError as error:
                    refused = error.response
                    break
            self.assertIsNotNone(refused, "the disk never became full")
            self.assertGreaterEqual(refused["ResponseMetadata"]["HTTPStatusCode"], 500)
            self.assertIn("full", self.ekiden.tail(400))
            failures.note_host(self, "A full disk under the database", "the answer of the API",
                               f"{refused['Error']['Code']}: {refused['Error']['Message']}")
            filler.unlink()
            until("writable again", lambda: self.writable(client), 60, self.ekiden.tail)
        self.ekiden.wait_serves()

    def writable(self, client):
        try:
            made = client.create_service(**service_request("after-full", images.web()))
        except botocore.exceptions.ClientError:
            return False
        self.addCleanup(self.remove, made["Service"]["ServiceArn"])
        self.succeeds(made["Service"]["ServiceArn"], made["OperationId"])
        return True


class WithoutNftables(unittest.TestCase):
    def test_a_host_without_nft_is_told_what_to_install(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        ekiden = Ekiden("nonft")
        self.addCleanup(shutil.rmtree, ekiden.base)
        self.addCleanup(ekiden.kill_all)
        nothing = ekiden.base / "nothing"
        nothing.mkdir()
        # Wherever it looks: as if the package were not there.
        places = [where for where in ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin") if os.path.isdir(where)]
        hides = "; ".join(f"mount --bind {nothing} {where}" for where in places)
        without = ["unshare", "--mount", "sh", "-c", f'set -e; {hides}; exec "$@"', "sh"]
        done = subprocess.run([*without, settings.BINARY, "doctor", "--config", ekiden.config],
                              capture_output=True, text=True, env=host.environment(), timeout=60)
        self.assertNotEqual(done.returncode, 0)
        _, _, rest = done.stdout.partition("nftables: ")
        failures.note_host(self, "A host without nftables", "`ekiden doctor`", "; ".join(rest.splitlines()[:2]))
        with open(ekiden.base / "stderr.log", "ab") as stderr:
            ekiden.process = subprocess.Popen(
                [*without, settings.BINARY, "server", "--config", ekiden.config], env=host.environment(),
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True)
        told = "`nft` was not found: install the package `nftables`"
        until("told: nft is missing", lambda: told in ekiden.tail(), 30, ekiden.tail)
        host.kill(ekiden.process.pid, signal.SIGTERM)
        ekiden.process.wait(timeout=60)
        ekiden.process = None


class WithoutOverlay(unittest.TestCase):
    """A file system that cannot hold the writable part of an overlay: another overlay."""

    def test_a_disk_that_cannot_hold_root_file_systems_is_told(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        ekiden = Ekiden("noovl")
        lower, upper, work, disk = parts = [
            ekiden.base / name for name in ("lower", "upper", "work", "disk")]
        for part in parts:
            part.mkdir()
        host.run("mount", "-t", "overlay", "-o",
                 f"lowerdir={lower},upperdir={upper},workdir={work}", "e2e", disk)
        ekiden.data = disk / "data"
        ekiden.write_config()
        try:
            ekiden.start()
            service = ekiden.create("nowhere", images.tiny())
            operation = ekiden.operation(service["ServiceArn"])
            self.assertEqual(service["Status"], "CREATE_FAILED", operation)
            self.assertRegex(operation["Failure"]["Reason"], "overlay|idmapped mounts")
            failure = operation["Failure"]
            told = f"{failure['Reason']}; {failure['Hint']}".replace(str(ekiden.data), "/var/lib/ekiden")
            # Other kernels refuse it elsewhere.
            if "idmapped mounts" in failure["Reason"]:
                failures.note_host(self, "A disk that cannot hold an overlay", "`ekiden describe`, the API and the service's log", told)
            ekiden.delete(service["ServiceArn"])
            ekiden.stop()
            ekiden.cli("teardown", "--yes")
        finally:
            ekiden.kill_all()
            host.run("umount", disk)
        ekiden.teardown()
