"""Counts of everything an Ekiden holds, so that before and after can be compared."""

import collections

from . import host
from .wait import Late, until


def census(ekiden):
    """Everything counted; equal before and after means that nothing leaked."""
    own = ekiden.processes()
    counts = {
        "processes": len(own),
        "zombies": zombies(ekiden),
        "network namespaces": len(host.network_namespaces(own)),
        "links": len(host.links(ekiden.name)),
        "cgroups": len(host.cgroup_directories(ekiden.name)),
        "nft objects": host.nft_objects(ekiden.name),
        "mounts": len(host.mounts([ekiden.base])),
    }
    for role in ("supervisor", "edge", "control", "agent"):
        for kind, count in host.descriptors(ekiden.pid(role)).items():
            # Connections that clients and roles keep come and go; see `settled`.
            counts[f"descriptors of {role}: {kind}"] = count
    for directory in (ekiden.data, ekiden.run):
        for place, count in host.files(directory).items():
            # What services said and used stays when they are deleted, within budgets of its own.
            if place in ("control/logs", "control/metrics"):
                continue
            counts[f"files in {directory.name}/{place}"] = count
    return counts


def zombies(ekiden):
    """Ended processes that their parent has not asked after."""
    pids = {ekiden.pid(role) for role in ("supervisor", "agent")}
    return sum(1 for pid in pids for child in children(pid) if not host.alive(child))


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:
        return []


# Differences that are no leak: (what, how much). A pool of database connections and the blocking
# pool of a runtime open a descriptor when first needed and keep it.
SLACK = (("descriptors of", 4), ("files in data/control", 2), ("files in data/edge", 1))


def difference(before, after):
    """What there is more of than before."""
    more = {}
    for what in sorted(before.keys() | after.keys()):
        grown = after.get(what, 0) - before.get(what, 0)
        allowed = next((n for prefix, n in SLACK if what.startswith(prefix)), 0)
        if grown > allowed:
            more[what] = f"{before.get(what, 0)} -> {after.get(what, 0)}"
    return more


def settled(ekiden, before, seconds=60, ignore=()):
    """Waits until there is nothing more than before; a leak fails, telling what it is of."""
    last = collections.deque(maxlen=1)

    def look():
        grown = difference(before, census(ekiden))
        last.append({what: grown[what] for what in grown if what not in ignore})
        return not last[0]

    try:
        until("back to what it was", look, seconds, ekiden.tail)
    except Late as late:
        raise AssertionError(f"leaked: {last[0]}") from late
