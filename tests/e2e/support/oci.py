"""Small images made by hand, so that each can be wrong in its own way."""

import gzip
import hashlib
import io
import json
import pathlib
import tarfile

BUSYBOX = pathlib.Path("/bin/busybox")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

APPLETS = ("sh", "httpd", "sleep", "cat", "yes", "dd", "nc", "true", "false", "echo", "head", "tr",
           "ls", "mkdir", "tail", "env", "kill", "id", "wget", "printf", "test")


def entry(name, kind=tarfile.REGTYPE, data=b"", link="", mode=0o755, **more):
    """One entry of a layer, exactly as given: nothing is normalised."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.mode = kind, len(data), link, mode
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def layer(*entries):
    """A layer's uncompressed bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def busybox_layer(*more):
    """A layer with a shell, a web server and whatever else is given."""
    applets = [entry(f"bin/{name}", tarfile.SYMTYPE, link="busybox") for name in APPLETS]
    directories = [entry(name, tarfile.DIRTYPE, mode=mode) for name, mode in
                   (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("www", 0o755))]
    return layer(
        *directories, entry("bin/busybox", data=BUSYBOX.read_bytes()), *applets,
        entry("etc/passwd", data=b"root:x:0:0:root:/:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n",
              mode=0o644),
        entry("etc/group", data=b"root:x:0:\nweb:x:1000:\n", mode=0o644),
        entry("www/index.html", data=b"busybox\n", mode=0o644), *more,
    )


class Image:
    """An image as blobs, to be written as an archive or served by a registry of ours."""

    def __init__(self, layers, command=("httpd", "-f", "-v", "-p", "8080", "-h", "/www"),
                 architecture="amd64", os="linux", diff_ids=None, level=1):
        self.blobs = {}
        self.tag = "latest"
        stored = [gzip.compress(data, level, mtime=0) for data in layers]
        config = {
            "architecture": architecture, "os": os,
            "config": {"Cmd": list(command), "Env": ["PATH=/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers",
                       "diff_ids": diff_ids or [digest(data) for data in layers]},
        }
        self.layers = [self.add(LAYER, data) for data in stored]
        self.manifest = self.add(MANIFEST, as_json({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.add(CONFIG, as_json(config)), "layers": self.layers,
        }))

    def add(self, kind, data):
        """Keeps a blob; its descriptor."""
        name = digest(data)
        self.blobs[name] = data
        return {"mediaType": kind, "digest": name, "size": len(data)}

    def archive(self, path):
        """Writes an OCI archive."""
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {**self.manifest, "annotations": {"org.opencontainers.image.ref.name": self.tag}},
        ]}
        files = {"oci-layout": as_json({"imageLayoutVersion": "1.0.0"}),
                 "index.json": as_json(index)}
        files |= {f"blobs/{name.replace(':', '/')}": data for name, data in self.blobs.items()}
        with tarfile.open(path, "w") as tar:
            for name, data in files.items():
                info, data = entry(name, data=data, mode=0o644)
                tar.addfile(info, io.BytesIO(data))
        return path


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def as_json(value):
    return json.dumps(value).encode()
