"""What the kernel and the disk hold of one Ekiden: processes, mounts, links, groups, rules, files."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess


def free_port():
    """A port that nothing listens on now; Ekiden is given fixed ones."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def free_subnet(prefix=24):
    """A private network that the host has no route into."""
    routes = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))
    taken = {route.get("dst", "") for route in routes}
    seed = os.getpid()
    for step in range(4096):
        second, third = 224 + (seed + step) // 256 % 16, (seed * 7 + step) % 256
        if prefix < 24:
            third &= 0xFF << (24 - prefix) & 0xFF
        if not any(entry.startswith(f"10.{second}.") for entry in taken):
            return f"10.{second}.{third}.0/{prefix}"
    raise RuntimeError("no free private network in 10.224.0.0/12")


def environment():
    """The environment without what would configure Ekiden or the AWS tools."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith(("EKIDEN_", "AWS_"))}


def run(*argv, **options):
    """The standard output of a program; its failure carries what it said."""
    done = subprocess.run(argv, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))}: exit {done.returncode}\n"
                             f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def missing(*programs):
    """Those of the programs that are not installed."""
    return [program for program in programs if shutil.which(program) is None]


def kill(pid, number=signal.SIGKILL):
    """Sends a signal; false if the process is gone already."""
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def alive(pid):
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@dataclasses.dataclass
class Process:
    pid: int
    parent: int
    argv: list
    cgroup: str


def processes():
    """Every process that runs."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            cgroup = (entry / "cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if stat[0] not in "ZX":
            found.append(Process(int(entry.name), int(stat[1]), argv, cgroup))
    return found


def descendants(everyone, roots):
    """Processes below the given ones, those included."""
    pids, grew = set(roots), True
    while grew:
        more = {p.pid for p in everyone if p.parent in pids} - pids
        pids |= more
        grew = bool(more)
    return [p for p in everyone if p.pid in pids]


def pss_bytes(pid):
    """Memory of a process, what it shares counted in proportion."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def descriptors(pid):
    """What a process has open, by kind."""
    kinds = {}
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        kind = target.split(":")[0] if ":[" in target else "file"
        kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


def cgroup_directories(name):
    """Control groups of the Ekiden called `name`, below its own."""
    root = pathlib.Path("/sys/fs/cgroup")
    found = []
    for path, directories, _ in os.walk(root):
        inside = any(part == f"ekiden-{name}" or part.startswith(f"ekiden-{name}.")
                     for part in pathlib.Path(path).relative_to(root).parts)
        if inside:
            found.append(path)
    return found


def links(name):
    """Network links of the Ekiden called `name`: its bridge and whatever is in it."""
    found = json.loads(run("ip", "-json", "link", "show"))
    bridge = f"ek-{name}"
    return [link["ifname"] for link in found
            if link["ifname"] == bridge or link.get("master") == bridge]


def nft_objects(name):
    """How many tables, chains, rules and sets there are of the Ekiden called `name`."""
    rules = json.loads(run("nft", "-j", "list", "ruleset"))["nftables"]
    table = f"ekiden_{name.replace('-', '_')}"
    named = [rule for entry in rules for rule in entry.values()
             if table in (rule.get("table"), rule.get("name"))]
    return len(named)


def files(directory):
    """How many files and directories there are below each directory in `directory`."""
    counts = {}
    root = pathlib.Path(directory)
    for path, directories, names in os.walk(root):
        parts = pathlib.Path(path).relative_to(root).parts[:2]
        key = "/".join(parts) or "."
        counts[key] = counts.get(key, 0) + len(directories) + len(names)
    return counts


def mounts(directories):
    """Mounts of the host at or below one of `directories`."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return [point for point in points if any(point.startswith(str(d)) for d in directories)]


def network_namespaces(everyone):
    """Network namespaces that the given processes are in."""
    found = set()
    for process in everyone:
        try:
            found.add(os.stat(f"/proc/{process.pid}/ns/net").st_ino)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
