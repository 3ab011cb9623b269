"""The life of a service through SDKs that are not Python's, set up as `ekiden env` says.

Each is a program under `clients/`, in its own language and with its own lock file; what it needs is
installed into the cache.
"""

import hashlib
import pathlib
import shutil
import unittest

from support import host, images, settings
from support.case import EkidenCase

CLIENTS = pathlib.Path(__file__).resolve().parent / "clients"
# The first build of the Rust SDK compiles some 130 crates.
INSTALL_SECONDS = 1800
RUN_SECONDS = 600


class Sdks(EkidenCase):
    label = "sdks"

    def life(self, name, *program):
        """Runs a client's program with the shell's `eval "$(ekiden env)"` in front of it."""
        self.addCleanup(self.remove_all)
        shell = ("sh", "-ec", 'eval "$SETUP"; unset SETUP; exec "$@"', "sh")
        environment = host.environment() | {"HOME": str(self.ekiden.base),
                                            "SETUP": self.ekiden.cli("env")}
        arguments = (name, images.tiny("sdk-a"), images.tiny("sdk-b"))
        said = host.run(*shell, *map(str, program), *arguments, env=environment,
                        timeout=RUN_SECONDS)
        self.assertEqual(said.splitlines()[-1], "ok: delete", said)
        self.assertEqual(self.ekiden.client().list_services()["ServiceSummaryList"], [])
        self.assertEqual(self.ekiden.living(), [])

    def remove_all(self):
        """What a program that failed half-way has left."""
        for service in self.ekiden.client().list_services()["ServiceSummaryList"]:
            self.remove(service["ServiceArn"])

    def test_javascript_sdk(self):
        if lacking := host.missing("node", "npm"):
            raise unittest.SkipTest(
                f"not installed: {', '.join(lacking)} (Debian packages nodejs and npm)")
        self.life("from-node", "node", javascript() / "life_cycle.js")

    def test_rust_sdk(self):
        if lacking := host.missing("cargo"):
            raise unittest.SkipTest(f"not installed: {', '.join(lacking)} (https://rustup.rs)")
        self.life("from-rust", rust())


def javascript():
    """The directory of the JavaScript client with its modules, made anew when they change."""
    source = CLIENTS / "javascript"
    names = ("package.json", "package-lock.json")
    content = b"".join((source / name).read_bytes() for name in names)
    key = hashlib.sha256(content).hexdigest()[:12]

    def install(home):
        print("e2e: installing the JavaScript SDK, once", flush=True)
        home.mkdir()
        for name in names:
            shutil.copy(source / name, home)
        host.run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=home,
                 timeout=INSTALL_SECONDS)

    home = images.kept(f"javascript-{key}", install)
    shutil.copy(source / "life_cycle.js", home)
    return home


def rust():
    """The Rust client; cargo knows what is to be built anew."""
    target = settings.CACHE / "rust"
    if not target.exists():
        print("e2e: building the Rust SDK, once", flush=True)
    host.run("cargo", "build", "--locked", "--quiet", "--target-dir", target, cwd=CLIENTS / "rust",
             timeout=INSTALL_SECONDS)
    return target / "debug/ekiden-rust-sdk"
