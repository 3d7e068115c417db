"""`events`: statistics of a container at intervals, and its out-of-memory events."""

from __future__ import annotations

import os
import select
import sys
import time
from contextlib import suppress
from typing import Any

import msgspec

from sampan.errors import Conflict, InvalidArgument
from sampan.linux.cgroups.statistics import BlockCount, Statistics
from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, flag
from sampan.runtime.container import Container
from sampan.spec.durations import parse_duration

FLAGS = (
    flag("--interval", "time between two statistics, as 5s or 500ms", "DURATION"),
    flag("--stats", "print the statistics once"),
)
USAGE = "CONTAINER"
OPERANDS = (1, 1)


def run(context: Context, given: Arguments) -> int:
    """Print events until the container ends."""
    container = Container.load(context.root, given.operands[0])
    interval = duration(given.get("interval", "5s"))
    if container.status() == "stopped":
        raise Conflict("container with id " + container.id + " is not running")
    cgroup = container.cgroup
    if cgroup is None:
        raise Conflict(f"container {container.id} has no cgroup of its own")
    if given.has("stats"):
        _emit("stats", container.id, described(cgroup.statistics()))
        return 0
    oom, pidfd = cgroup.oom_event(), container.pidfd()
    try:
        _follow(container, oom, pidfd, interval)
    finally:
        for fd in (oom, pidfd):
            if fd >= 0:
                os.close(fd)
    return 0


def _follow(container: Container, oom: int, pidfd: int, interval: float) -> None:
    cgroup = container.cgroup
    if cgroup is None:
        return
    kills = cgroup.oom_kills()
    due = time.monotonic() + interval
    watched = [fd for fd in (oom, pidfd) if fd >= 0]
    while True:
        ready, _, _ = select.select(watched, [], [], max(0.0, due - time.monotonic()))
        if oom in ready:
            os.read(oom, 4096)
            now = cgroup.oom_kills()
            if now > kills:
                _emit("oom", container.id, None)
            kills = now
        if pidfd in ready:
            return
        if time.monotonic() >= due:
            _emit("stats", container.id, described(cgroup.statistics()))
            due += interval


def duration(text: str) -> float:
    """Return seconds of Go's notation; raises InvalidArgument unless it is positive."""
    with suppress(ValueError):
        if (nanoseconds := parse_duration(text)) > 0:
            return nanoseconds / 10**9
    raise InvalidArgument(f"invalid value {text!r} for flag --interval: it must be positive, as 5s")


def _emit(kind: str, id: str, data: dict[str, Any] | None) -> None:
    event: dict[str, Any] = {"type": kind, "id": id}
    if data is not None:
        event["data"] = data
    sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
    sys.stdout.flush()


def described(read: Statistics) -> dict[str, Any]:
    """Return statistics in runc's shape. Source: runc types/events.go."""
    cpu, memory = read.cpu, read.memory
    stat = memory.stat
    return {
        "cpu": {
            "usage": {
                "total": cpu.total,
                "percpu": list(cpu.per_cpu),
                "kernel": cpu.system,
                "user": cpu.user,
            },
            "throttling": {
                "periods": cpu.periods,
                "throttledPeriods": cpu.throttled_periods,
                "throttledTime": cpu.throttled_time,
            },
        },
        "cpuset": {},
        "memory": {
            "cache": stat.get("cache", stat.get("file", 0)),
            "usage": {
                "limit": memory.limit,
                "usage": memory.usage,
                "max": memory.max_usage,
                "failcnt": memory.fail_count,
            },
            "swap": {"limit": memory.swap_limit, "usage": memory.swap_usage, "failcnt": 0},
            "kernel": {"limit": 0, "failcnt": 0},
            "kernelTCP": {"limit": 0, "failcnt": 0},
            "raw": stat,
        },
        "pids": {"current": read.pids, "limit": read.pids_limit},
        "blkio": {
            "ioServiceBytesRecursive": [_block(each) for each in read.block_io.service_bytes],
            "ioServicedRecursive": [_block(each) for each in read.block_io.serviced],
        },
        "hugetlb": {
            size: {"usage": each.usage, "max": each.max_usage, "failcnt": each.fail_count}
            for size, each in read.hugetlb.items()
        },
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _block(count: BlockCount) -> dict[str, Any]:
    return {"major": count.major, "minor": count.minor, "op": count.op, "value": count.value}
