"""The peer of an instance: an OCI bundle for runc with the same isolation."""

import json
import os
import pathlib

SECCOMP = pathlib.Path("/usr/share/containers/seccomp.json")

CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_SETGID",
                "CAP_SETUID", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
                "CAP_SETFCAP"]
USER_BASE, USERS = 0x10000000, 65536


def make(directory, files, user_namespace):
    """Writes a bundle whose root file system holds `files` (path to content); its directory."""
    root = directory / "rootfs"
    for name in ("proc", "sys", "dev", "tmp", "etc"):
        (root / name).mkdir(parents=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
    if user_namespace:
        for path in (root, *root.rglob("*")):
            os.lchown(path, USER_BASE, USER_BASE)
    (directory / "config.json").write_text(json.dumps(config(user_namespace)))
    return directory


def config(user_namespace):
    namespaces = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")]
    mapping = [{"containerID": 0, "hostID": USER_BASE, "size": USERS}]
    linux = {
        "namespaces": namespaces + ([{"type": "user"}] if user_namespace else []),
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}],
            "memory": {"limit": 2 << 30, "swap": 2 << 30},
            "cpu": {"quota": 100_000, "period": 100_000}, "pids": {"limit": 4096}},
        "seccomp": seccomp(),
        "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                        "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
                        "/sys/devices/virtual/powercap"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                          "/proc/sysrq-trigger"],
    }
    if user_namespace:
        linux |= {"uidMappings": mapping, "gidMappings": mapping}
    sets = ("bounding", "effective", "permitted")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": ["/stamp"], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": True, "capabilities": {name: CAPABILITIES for name in sets},
            "rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
        },
        "root": {"path": "rootfs"},
        "hostname": "bench",
        "mounts": mounts(),
        "linux": linux,
    }


def mounts():
    hidden = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": hidden},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": [*hidden, "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": hidden},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*hidden, "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": [*hidden, "relatime", "ro"]},
    ]


def seccomp():
    """The distribution's default profile for containers, for these capabilities on x86-64."""
    given = json.loads(SECCOMP.read_text())

    def holds(rule):
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        wanted = includes.get("caps") or []
        arches = includes.get("arches") or ["amd64"]
        return (all(cap in CAPABILITIES for cap in wanted) and "amd64" in arches
                and not any(cap in CAPABILITIES for cap in excludes.get("caps") or [])
                and "amd64" not in (excludes.get("arches") or []))

    rules = []
    for rule in filter(holds, given["syscalls"]):
        kept = {key: rule[key] for key in ("names", "action", "errnoRet") if key in rule}
        if rule.get("args"):
            kept["args"] = rule["args"]
        rules.append(kept)
    return {"defaultAction": given["defaultAction"], "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": rules}
