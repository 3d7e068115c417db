"""What can be done with one control group, whatever the version of the hierarchy.

`hierarchy.open_cgroup(path)` returns the implementation for this host: `v2.py` where the unified
hierarchy has the controllers, `v1.py` otherwise (with the unified hierarchy beside it on hybrid
hosts). All work on directory descriptors below the mount points that were found at the start;
cgroupfs has no symbolic links, and paths with `..` are refused, so no container can steer them.

Entering fast. A write to `cgroup.procs` takes cgroup_threadgroup_rwsem for writing: after a few
idle milliseconds that waits for an RCU grace period. Measured here (Linux 6.18, 9 v1 hierarchies):
parent or child through cgroup.procs 4 to 24 ms, the same when warm 0.1 to 0.6 ms; a
single-threaded child that writes "0" to the v1 file `tasks` 0.1 to 0.2 ms, always, because the
kernel skips the lock for a thread that moves only itself (since Linux 5.4, commit 9a3284fad42f).
On v2 the same is had by clone3(2) with CLONE_INTO_CGROUP. `Entry` offers both.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sampan.linux.cgroups.statistics import Statistics
    from sampan.spec.runtime import LinuxResources


@dataclass(slots=True)
class Entry:
    """Open descriptors with which a new process puts itself into a cgroup; close after the fork.

    The process must be single-threaded and must call `enter` in the namespaces of its parent,
    before it opens anything to its container. A child made by clone3 with CLONE_INTO_CGROUP and
    `into` is in the unified hierarchy already: it calls `enter(into=True)`.
    """

    tasks: tuple[int, ...]  # v1: `tasks` of every hierarchy
    procs: int = -1  # v2: cgroup.procs
    into: int = -1  # v2: the directory, for clone3
    holder: int = -1  # a scope of systemd: closing it ends the process that keeps it meanwhile

    def enter(self, *, into: bool = False) -> None:
        """Move the calling process; raises OSError."""
        for descriptor in self.tasks:
            os.write(descriptor, b"0")
        if self.procs >= 0 and not into:
            os.write(self.procs, b"0")

    def close(self) -> None:
        """Close every descriptor; harmless when repeated."""
        for descriptor in (*self.tasks, self.procs, self.into, self.holder):
            if descriptor >= 0:
                os.close(descriptor)
        self.tasks, self.procs, self.into, self.holder = (), -1, -1, -1

    def __enter__(self) -> Entry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cgroup(Protocol):
    """One control group in every hierarchy that this host has."""

    @property
    def path(self) -> str:
        """The path below each hierarchy: /docker/<id>."""

    def create(self, resources: LinuxResources | None = None) -> list[str]:
        """Make the directories and set the limits, before any process is inside.

        Returns sentences on what was asked for and cannot be done on this host. Raises OSError
        for a value that the kernel refuses (the file name tells which); nothing is left then.
        """

    def update(self, resources: LinuxResources) -> list[str]:
        """Change what `resources` names while processes run; warnings and errors as `create`."""

    def entry(self, beside: int = 0) -> Entry:
        """Return descriptors for a new process to enter with; `beside` is the container's init.

        On v2 an init that has moved itself into a cgroup below takes the new process with it.
        """

    def join(self, pid: int) -> None:
        """Move a foreign process; slow (see the module), `entry` is the fast way."""

    def pids(self) -> list[int]:
        """Return every process inside or below, in the caller's pid namespace."""

    def freeze(self) -> None:
        """Stop every process inside or below; returns when all are stopped."""

    def thaw(self) -> None:
        """Let the processes run again."""

    def is_frozen(self) -> bool:
        """Tell whether the processes are stopped, or about to be."""

    def kill(self) -> None:
        """Send SIGKILL to every process inside or below, forks included; frozen ones die too."""

    def signal(self, number: int) -> None:
        """Send any signal to every process inside or below, once."""

    def statistics(self) -> Statistics:
        """Read all counters; missing controllers count zero."""

    def oom_event(self) -> int:
        """Return a descriptor that becomes readable when memory events happen; -1 if none can be.

        Read it to rearm, then ask `oom_kills`: the kernel also wakes it at removal (v1) and for
        other events of the memory controller (v2). The caller closes it.
        """

    def oom_kills(self) -> int:
        """Return how many processes the memory limit has killed."""

    def exists(self) -> bool:
        """Tell whether any hierarchy still has this cgroup."""

    def remove(self, patience: float = 2.0) -> None:
        """Remove the directories and all below them.

        Waits up to `patience` seconds while dying processes keep them busy, then raises OSError
        (EBUSY). What is gone already is no error.
        """
