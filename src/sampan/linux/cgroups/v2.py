"""A control group in the unified hierarchy."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sampan.linux.cgroups import limits, v2_limits
from sampan.linux.cgroups.cgroup import Entry
from sampan.linux.cgroups.files import Directory, components, descend, make, remove
from sampan.linux.cgroups.processes import PATIENCE, kill_until_empty, processes, send
from sampan.linux.libc import check, libc
from sampan.spec.runtime import LinuxDeviceCgroup, LinuxResources

if TYPE_CHECKING:
    from sampan.linux.cgroups.statistics import Statistics

IN_MODIFY = 0x2  # linux/inotify.h
IN_CLOEXEC = os.O_CLOEXEC
IN_NONBLOCK = os.O_NONBLOCK

#: Controllers that every container gets where the host has them, for statistics and updates.
_WANTED = frozenset({"cpu", "cpuset", "io", "memory", "pids"})


def controllers(root: int) -> frozenset[str]:
    """Return the controllers that the unified hierarchy offers at its mount point."""
    if root < 0:
        return frozenset()
    directory = Directory(root)
    return frozenset(directory.read_or("cgroup.controllers", "").split())


class UnifiedCgroup:
    """`Cgroup` on version 2."""

    def __init__(self, root: int, path: str) -> None:
        self._root = root
        self._parts = components(path)

    @property
    def path(self) -> str:
        """See `Cgroup.path`."""
        return "/" + "/".join(self._parts)

    # --- life ---------------------------------------------------------------------------------

    def create(self, resources: LinuxResources | None = None) -> list[str]:
        """See `Cgroup.create`."""
        wanted = resources or LinuxResources()
        warnings = self._enable(v2_limits.needed(wanted))
        directory, made = make(self._root, self._parts)
        try:
            if not made and processes(directory):
                raise OSError(errno.EBUSY, "the cgroup has processes already", self.path)
            warnings += self._apply(directory, wanted)
        except BaseException:
            if made:
                remove(self._root, self._parts, time.monotonic())
            raise
        finally:
            directory.close()
        return warnings

    def update(self, resources: LinuxResources) -> list[str]:
        """See `Cgroup.update`."""
        return self.apply(resources)

    def apply(self, resources: LinuxResources) -> list[str]:
        """Write limits to a cgroup that exists."""
        with self._opened() as directory:
            return self._apply(directory, resources)

    def _apply(self, directory: Directory, resources: LinuxResources) -> list[str]:
        warnings = v2_limits.apply(directory, resources)
        if resources.devices:
            warnings += self._restrict(directory, resources.devices)
        return warnings

    def _enable(self, needed: set[str]) -> list[str]:
        """Enable controllers for the children of every group above this one."""
        offered = controllers(self._root)
        wanted = (_WANTED | needed) & offered
        warnings = [limits.missing(controller) for controller in sorted(needed - offered)]
        for end in range(len(self._parts)):
            if end:
                directory, _ = make(self._root, self._parts[:end])
            else:
                directory = Directory(os.dup(self._root))
            try:
                present = set(directory.read("cgroup.subtree_control").split())
                for controller in sorted(wanted - present):
                    warnings += _enable(directory, controller, controller in needed)
            finally:
                directory.close()
        return warnings

    @staticmethod
    def _restrict(directory: Directory, rules: list[LinuxDeviceCgroup]) -> list[str]:
        """Replace the device program of the cgroup by one for `rules`."""
        from sampan.linux import bpf  # not on the hosts that have version 1

        try:
            bpf.set_device_rules(directory.fd, rules)
        except OSError as failure:
            if failure.errno in (errno.ENOSYS, errno.EPERM):
                return [f"access to devices is not limited: bpf(2) failed: {failure.strerror}"]
            raise
        return []

    def exists(self) -> bool:
        """See `Cgroup.exists`."""
        with self.directory() as directory:
            return directory is not None

    def remove(self, patience: float = PATIENCE) -> None:
        """See `Cgroup.remove`."""
        remove(self._root, self._parts, time.monotonic() + patience)

    # --- processes ----------------------------------------------------------------------------

    def entry(self, beside: int = 0) -> Entry:
        """See `Cgroup.entry`."""
        with self._opened() as own, self._beside(beside) as other:
            directory = other or own
            procs = directory.open("cgroup.procs")
            try:
                return Entry((), procs, os.dup(directory.fd))
            except BaseException:
                os.close(procs)
                raise

    @contextmanager
    def _beside(self, pid: int) -> Iterator[Directory | None]:
        """Open the cgroup of `pid` if it is a proper part of this one, else yield None.

        A group whose children have controllers takes no processes itself: an init that manages
        groups has moved below.
        """
        inside = _unified_path(pid) if pid else None
        parts = inside.strip("/").split("/") if inside else []
        below = len(parts) > len(self._parts) and parts[: len(self._parts)] == self._parts
        directory = descend(self._root, components("/".join(parts))) if below else None
        try:
            yield directory
        finally:
            if directory is not None:
                directory.close()

    def join(self, pid: int) -> None:
        """See `Cgroup.join`."""
        with self._opened() as directory:
            directory.write("cgroup.procs", pid)

    def pids(self) -> list[int]:
        """See `Cgroup.pids`."""
        with self.directory() as directory:
            return processes(directory) if directory is not None else []

    def signal(self, number: int) -> None:
        """See `Cgroup.signal`."""
        send(self.pids, number)

    def kill(self) -> None:
        """See `Cgroup.kill`."""
        with self.directory() as directory:
            if directory is None:
                return
            try:
                directory.write("cgroup.kill", 1)
            except FileNotFoundError:  # before Linux 5.14
                kill_until_empty(self.pids)

    def freeze(self) -> None:
        """See `Cgroup.freeze`."""
        if os.getpid() in self.pids():
            raise OSError(errno.EDEADLK, "a process cannot freeze its own cgroup", self.path)
        with self._opened() as directory:
            directory.write("cgroup.freeze", 1)
            deadline = time.monotonic() + 5 * PATIENCE
            pause = 0.0001
            while not directory.table("cgroup.events").get("frozen"):
                if time.monotonic() > deadline:
                    directory.write("cgroup.freeze", 0)
                    raise TimeoutError(errno.ETIMEDOUT, "unable to freeze", "cgroup.freeze")
                time.sleep(pause)
                pause = min(2 * pause, 0.02)

    def thaw(self) -> None:
        """See `Cgroup.thaw`."""
        with self._opened() as directory:
            directory.write("cgroup.freeze", 0)

    def is_frozen(self) -> bool:
        """See `Cgroup.is_frozen`."""
        with self.directory() as directory:
            return directory is not None and directory.number("cgroup.freeze") == 1

    # --- knowledge ----------------------------------------------------------------------------

    def statistics(self) -> Statistics:
        """See `Cgroup.statistics`."""
        from sampan.linux.cgroups import v2_statistics  # see v1.py

        with self._opened() as directory:
            return v2_statistics.read(directory)

    def oom_event(self) -> int:
        """See `Cgroup.oom_event`."""
        with self.directory() as directory:
            if directory is None or not directory.has("memory.events"):
                return -1
            event = check(libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK))
            try:
                path = f"/proc/self/fd/{directory.fd}/memory.events".encode()
                check(libc.inotify_add_watch(event, path, IN_MODIFY), "memory.events")
            except BaseException:
                os.close(event)
                raise
            return event

    def oom_kills(self) -> int:
        """See `Cgroup.oom_kills`."""
        with self.directory() as directory:
            return directory.table("memory.events").get("oom_kill", 0) if directory else 0

    # --- inside -------------------------------------------------------------------------------

    @contextmanager
    def directory(self) -> Iterator[Directory | None]:
        """Open the cgroup's directory; None if it does not exist."""
        directory = descend(self._root, self._parts)
        try:
            yield directory
        finally:
            if directory is not None:
                directory.close()

    @contextmanager
    def _opened(self) -> Iterator[Directory]:
        with self.directory() as directory:
            if directory is None:
                raise FileNotFoundError(errno.ENOENT, "the cgroup does not exist", self.path)
            yield directory


def _enable(directory: Directory, controller: str, is_needed: bool) -> list[str]:
    try:
        directory.write("cgroup.subtree_control", f"+{controller}")
    except OSError as failure:
        # EBUSY: the group has processes of its own; ENOENT: its parent does not hand it down.
        if failure.errno not in (errno.EBUSY, errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        if is_needed:
            reason = os.strerror(failure.errno)
            return [f"the cgroup controller {controller} cannot be enabled: {reason}"]
    return []


def _unified_path(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                if line.startswith("0::"):
                    return line[3:].rstrip("\n")
    except OSError:
        return None
    return None
