"""A control group in the hierarchies of version 1, with the unified one beside them (hybrid).

On a hybrid host the unified directory is made only if limits need its controllers; to enter it
costs what the module `cgroup` says, unless the child is made by clone3 with CLONE_INTO_CGROUP.
"""

from __future__ import annotations

import errno
import os
import signal as signals
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sampan.linux.cgroups import devices, limits, v1_limits
from sampan.linux.cgroups.cgroup import Entry
from sampan.linux.cgroups.files import Directory, components, descend, make, remove
from sampan.linux.cgroups.processes import PATIENCE, kill_until_empty, processes, send
from sampan.linux.cgroups.v2 import UnifiedCgroup
from sampan.spec.runtime import LinuxResources

if TYPE_CHECKING:
    from sampan.linux.cgroups.statistics import Statistics


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy: `cpu,cpuacct` mounted together are one."""

    fd: int
    mount: str
    controllers: tuple[str, ...]  # a named hierarchy: ("name=systemd",)


class LegacyCgroup:
    """`Cgroup` on version 1."""

    def __init__(
        self, hierarchies: tuple[Hierarchy, ...], path: str, beside: UnifiedCgroup | None
    ) -> None:
        self._hierarchies, self._beside = hierarchies, beside
        self._parts = components(path)

    @property
    def path(self) -> str:
        """See `Cgroup.path`."""
        return "/" + "/".join(self._parts)

    # --- life ---------------------------------------------------------------------------------

    def create(self, resources: LinuxResources | None = None) -> list[str]:
        """See `Cgroup.create`."""
        made: list[Hierarchy] = []
        opened: dict[str, Directory] = {}
        try:
            for hierarchy in self._hierarchies:
                directory, count = make(hierarchy.fd, self._parts)
                opened.update(dict.fromkeys(hierarchy.controllers, directory))
                if count:
                    made.append(hierarchy)
                elif processes(directory):
                    raise OSError(errno.EBUSY, "the cgroup has processes already", self.path)
                if "cpuset" in hierarchy.controllers:
                    _inherit_cpuset(hierarchy.fd, self._parts, directory)
            return self._limit(opened, resources, new=True) if resources else []
        except BaseException:
            deadline = time.monotonic()
            for hierarchy in made:
                remove(hierarchy.fd, self._parts, deadline)
            if made and self._beside is not None:
                self._beside.remove(0)
            raise
        finally:
            _close(opened)

    def update(self, resources: LinuxResources) -> list[str]:
        """See `Cgroup.update`."""
        with self._open() as opened:
            return self._limit(opened, resources, new=False)

    def _limit(
        self, opened: dict[str, Directory], resources: LinuxResources, *, new: bool
    ) -> list[str]:
        warnings = v1_limits.apply(opened, resources, new=new)
        if resources.devices:
            if directory := opened.get("devices"):
                devices.write(directory, resources.devices)
            else:
                warnings.append(limits.missing("devices"))
        pages = resources.hugepage_limits
        if pages and (directory := opened.get("hugetlb")):
            warnings += v1_limits.hugetlb(directory, pages)
            pages = []
        if pages or resources.unified:
            rest = LinuxResources(hugepage_limits=pages, unified=resources.unified)
            if self._beside is None:
                raise OSError(errno.ENOTSUP, "the host has no unified cgroup hierarchy", self.path)
            change = self._beside.create if not self._beside.exists() else self._beside.update
            warnings += change(rest)
        return warnings

    def exists(self) -> bool:
        """See `Cgroup.exists`."""
        with self._open() as opened:
            return bool(opened) or (self._beside is not None and self._beside.exists())

    def remove(self, patience: float = PATIENCE) -> None:
        """See `Cgroup.remove`."""
        deadline = time.monotonic() + patience
        failure: OSError | None = None
        for hierarchy in self._hierarchies:
            try:
                remove(hierarchy.fd, self._parts, deadline)
            except OSError as problem:
                failure = failure or problem
        if self._beside is not None:
            self._beside.remove(max(0.0, deadline - time.monotonic()))
        if failure is not None:
            raise failure

    # --- processes ----------------------------------------------------------------------------

    def entry(self, beside: int = 0) -> Entry:
        """See `Cgroup.entry`."""
        tasks: list[int] = []
        try:
            for hierarchy in self._hierarchies:
                path = "/".join((*self._parts, "tasks"))
                flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                try:
                    tasks.append(os.open(path, flags, dir_fd=hierarchy.fd))
                except FileNotFoundError:
                    continue  # made by another runtime, without this hierarchy
            if not tasks:
                raise FileNotFoundError(errno.ENOENT, "the cgroup does not exist", self.path)
            if self._beside is not None and self._beside.exists():
                return replace(self._beside.entry(beside), tasks=tuple(tasks))
            return Entry(tuple(tasks))
        except BaseException:
            Entry(tuple(tasks)).close()
            raise

    def join(self, pid: int) -> None:
        """See `Cgroup.join`."""
        with self._open() as opened:
            if not opened:
                raise FileNotFoundError(errno.ENOENT, "the cgroup does not exist", self.path)
            for directory in set(opened.values()):
                directory.write("cgroup.procs", pid)
        if self._beside is not None and self._beside.exists():
            self._beside.join(pid)

    def pids(self) -> list[int]:
        """See `Cgroup.pids`."""
        with self._open() as opened:
            for controller in ("freezer", "pids", "devices", *opened):
                if controller in opened:
                    return processes(opened[controller])
        return []

    def signal(self, number: int) -> None:
        """See `Cgroup.signal`."""
        send(self.pids, number)

    def kill(self) -> None:
        """See `Cgroup.kill`."""
        if self._beside is not None:
            self._beside.kill()
        pids = self.pids()
        if not pids:
            return
        with self._open("freezer") as opened:
            freezer = opened.get("freezer")
            if freezer is None or os.getpid() in pids:  # never freeze ourselves
                kill_until_empty(self.pids)
                return
            # Frozen processes cannot fork: one round reaches all of them.
            try:
                _freeze(freezer, time.monotonic() + PATIENCE)
            except TimeoutError:
                kill_until_empty(self.pids)
            send(self.pids, signals.SIGKILL)
            freezer.write("freezer.state", "THAWED")

    def freeze(self) -> None:
        """See `Cgroup.freeze`."""
        if os.getpid() in self.pids():
            raise OSError(errno.EDEADLK, "a process cannot freeze its own cgroup", self.path)
        with self._freezer() as freezer:
            try:
                _freeze(freezer, time.monotonic() + 5 * PATIENCE)
            except TimeoutError:
                freezer.write("freezer.state", "THAWED")
                raise

    def thaw(self) -> None:
        """See `Cgroup.thaw`."""
        with self._freezer() as freezer:
            freezer.write("freezer.state", "THAWED")

    def is_frozen(self) -> bool:
        """See `Cgroup.is_frozen`."""
        with self._open("freezer") as opened:
            freezer = opened.get("freezer")
            return freezer is not None and freezer.read("freezer.state").strip() != "THAWED"

    # --- knowledge ----------------------------------------------------------------------------

    def statistics(self) -> Statistics:
        """See `Cgroup.statistics`."""
        # Loaded by those who count only: the runtime's command line never does.
        from sampan.linux.cgroups import v1_statistics, v2_statistics

        with self._open() as opened:
            read = v1_statistics.read(opened)
        if not read.hugetlb and self._beside is not None:
            with self._beside.directory() as directory:
                if directory is not None:
                    read = replace(read, hugetlb=v2_statistics.hugetlb(directory))
        return read

    def oom_event(self) -> int:
        """See `Cgroup.oom_event`."""
        with self._open("memory") as opened:
            memory = opened.get("memory")
            if memory is None:
                return -1
            event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            try:
                control = os.open(
                    "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC, dir_fd=memory.fd
                )
                try:
                    memory.write("cgroup.event_control", f"{event} {control}")
                finally:
                    os.close(control)
            except BaseException:
                os.close(event)
                raise
            return event

    def oom_kills(self) -> int:
        """See `Cgroup.oom_kills`."""
        with self._open("memory") as opened:
            if memory := opened.get("memory"):
                return memory.table("memory.oom_control").get("oom_kill", 0)
        return 0

    # --- inside -------------------------------------------------------------------------------

    @contextmanager
    def _open(self, only: str = "") -> Iterator[dict[str, Directory]]:
        """Open the directories that exist, by controller; one object per hierarchy."""
        opened: dict[str, Directory] = {}
        try:
            for hierarchy in self._hierarchies:
                if only and only not in hierarchy.controllers:
                    continue
                if directory := descend(hierarchy.fd, self._parts):
                    opened.update(dict.fromkeys(hierarchy.controllers, directory))
            yield opened
        finally:
            _close(opened)

    @contextmanager
    def _freezer(self) -> Iterator[Directory]:
        with self._open("freezer") as opened:
            if "freezer" not in opened:
                raise OSError(errno.ENOTSUP, "the cgroup freezer is not available", self.path)
            yield opened["freezer"]


def _close(opened: dict[str, Directory]) -> None:
    for directory in opened.values():
        directory.close()


def _freeze(freezer: Directory, deadline: float) -> None:
    """Write FROZEN until it is so; raises TimeoutError.

    A process that forks meanwhile may leave the group half frozen for ever: thawing for a moment
    and writing again gets it out of that. Source: opencontainers/cgroups fs/freezer.go.
    """
    attempt = 0
    while True:
        freezer.write("freezer.state", "FROZEN")
        if freezer.read("freezer.state").strip() == "FROZEN":
            return
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "unable to freeze", "freezer.state")
        attempt += 1
        if attempt % 50 == 0:
            freezer.write("freezer.state", "THAWED")
            time.sleep(0.01)
        else:
            time.sleep(0.00005 * min(attempt, 20))


def _inherit_cpuset(root: int, parts: list[str], leaf: Directory) -> None:
    """Give a new cpuset the processors and memory of its parent: it starts with none.

    A parent that has none either is given its own parent's. `cgroup.clone_children`, set on the
    parents that we meet, spares this for the next container.
    """
    names = [name for name in ("cpuset.cpus", "cpuset.mems") if not leaf.read(name).strip()]
    if not names:
        return
    above = Directory(os.dup(root))
    values = {name: above.read(name).strip() for name in names}
    above.close()
    for end in range(1, len(parts)):
        directory = descend(root, parts[:end])
        if directory is None:
            break
        try:
            for name in names:
                own = directory.read(name).strip()
                if own:
                    values[name] = own
                else:
                    directory.write(name, values[name])
            directory.write("cgroup.clone_children", 1)
        finally:
            directory.close()
    for name in names:
        leaf.write(name, values[name])
