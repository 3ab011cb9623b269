"""The images that suites deploy: a Python web application on a Debian base, and tiny ones."""

import atexit
import fcntl
import functools
import hashlib
import os
import pathlib
import shutil
import tempfile

from . import host, oci, settings
from .registry import Registry
from .server import Ekiden

WEB = pathlib.Path(__file__).resolve().parents[1] / "apps/web"
BASE = "localhost/debian:bookworm"

# Raised when the way to make the images changes.
VERSION = "1"

NEEDED = ("docker-registry", "skopeo", "buildah", "mmdebstrap", "nft", "ip")


@functools.cache
def registry():
    """One registry for the whole run."""
    made = Registry()
    atexit.register(made.close)
    return made


@functools.cache
def web(build=1):
    """The web application's image in the registry; builds differ in what /whoami says."""
    return registry().push(web_archive(build), f"e2e/web:{build}")


@functools.cache
def tiny(name="tiny", command=None, *entries):
    """A busybox image in the registry; a web server unless another command is given."""
    options = {"command": command} if command else {}
    image = oci.Image([oci.busybox_layer(*entries)], **options)
    with tempfile.TemporaryDirectory() as directory:
        archive = image.archive(pathlib.Path(directory) / "image.tar")
        return registry().push(archive, f"e2e/{name}:1")


def web_archive(build):
    """The web application as an OCI archive, built by buildah and kept."""
    return kept(f"web-{build}-{fingerprint()}.tar", lambda path: build_web(build, path))


def base_archive():
    """The Debian base as an OCI archive, made by Ekiden itself and kept."""
    return kept(f"debian-{VERSION}.tar", bootstrap)


def kept(name, make):
    """A file or directory of the cache; one process makes it while others wait."""
    settings.CACHE.mkdir(parents=True, exist_ok=True)
    path = settings.CACHE / name
    with open(settings.CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            temporary = settings.CACHE / f"{name}.{os.getpid()}.tmp"
            try:
                make(temporary)
                temporary.rename(path)
            finally:
                remove(temporary)
    return path


def remove(path):
    """Removes a file or directory, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def bootstrap(path):
    print("e2e: making the Debian base image, once", flush=True)
    ekiden = Ekiden("boot")
    try:
        ekiden.start()
        ekiden.cli("image", "bootstrap", "debian:bookworm", "--include", "python3", timeout=900)
        ekiden.cli("image", "export", BASE, str(path), timeout=300)
    finally:
        ekiden.teardown()


def build_web(build, path):
    """As anyone would with an ordinary Dockerfile."""
    print(f"e2e: building the web application, build {build}, once", flush=True)
    store = settings.CACHE / "containers"
    buildah = ("buildah", "--root", store, "--runroot", store / "run")
    base = host.run(*buildah, "pull", "--quiet", f"oci-archive:{base_archive()}").strip()
    host.run(*buildah, "tag", base.splitlines()[-1], BASE)
    name = f"localhost/ekiden-e2e-web:{build}"
    host.run(*buildah, "bud", "--quiet", "--isolation", "chroot", "--pull-never",
             "--build-arg", f"BUILD={build}", "--tag", name, WEB)
    host.run(*buildah, "push", "--quiet", name, f"oci-archive:{path}:latest")


def fingerprint():
    content = b"".join(file.read_bytes() for file in sorted(WEB.iterdir()) if file.is_file())
    return hashlib.sha256(VERSION.encode() + content).hexdigest()[:12]
