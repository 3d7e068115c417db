"""Control groups that systemd makes: transient scopes, asked for over its private D-Bus socket.

A cgroup whose path ends in NAME.scope below a slice is systemd's, where systemd runs with pure
cgroup v2. It is asked for the scope and told the limits, so that it never takes them back
(`systemctl daemon-reload`); what it has no property for is written as in any other cgroup, which
`Delegate=yes` allows. systemd removes the scope when its last process has ended.

Source: systemd's org.freedesktop.systemd1(5), systemd.resource-control(5); opencontainers/cgroups
systemd/v2.go for how limits become properties.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress
from typing import Any, Final

from sampan.linux.cgroups import v2_limits
from sampan.linux.cgroups.cgroup import Entry
from sampan.linux.cgroups.processes import PATIENCE
from sampan.linux.cgroups.v2 import UnifiedCgroup
from sampan.linux.dbus import Connection, DBusError, Message, Properties, Variant
from sampan.spec.runtime import LinuxCPU, LinuxMemory, LinuxResources

SOCKET: Final = "/run/systemd/private"
SECONDS: Final = 30.0  # that systemd may take for a scope
NUMBERS_AT_MOST: Final = 8192  # NR_CPUS, where it is largest
INFINITY: Final = (1 << 64) - 1
_PATH, _MANAGER = "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
_EXISTS, _LOADED = "org.freedesktop.systemd1.UnitExists", "org.freedesktop.systemd1.UnitLoaded"


def manages(path: str) -> bool:
    """Tell whether the cgroup at this path is, or will be, systemd's."""
    slice_, _, scope = path.rstrip("/").rpartition("/")
    if not (scope.endswith(".scope") and slice_.endswith(".slice")):
        return False
    return is_running()


def is_running() -> bool:
    """Tell whether a systemd answers here."""
    try:
        return stat.S_ISSOCK(os.stat(SOCKET).st_mode)
    except OSError:
        return False


class ScopedCgroup(UnifiedCgroup):
    """`Cgroup` as a scope of systemd."""

    _holder = -1

    @property
    def _unit(self) -> str:
        return self._parts[-1]

    def create(self, resources: LinuxResources | None = None) -> list[str]:
        """See `Cgroup.create`; a process that only waits holds the scope until ours is inside."""
        wanted = resources or LinuxResources()
        if self.pids():
            raise OSError(errno.EBUSY, "the cgroup has processes already", self.path)
        self._holder, holder = _hold()
        try:
            self._start(holder, wanted)
            return self.apply(wanted)
        except BaseException:
            os.close(self._holder)  # it ends, and with it the scope
            self._holder = -1
            raise

    def _start(self, holder: int, wanted: LinuxResources) -> None:
        properties = [
            ("Description", Variant("s", f"sampan container {self._unit}")),
            ("Slice", Variant("s", self._parts[-2])),
            ("PIDs", Variant("au", [holder])),
            ("Delegate", Variant("b", True)),
            ("DefaultDependencies", Variant("b", False)),
            ("CollectMode", Variant("s", "inactive-or-failed")),
            *limits(wanted),
        ]
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._ask_for_scope(properties)
            except DBusError as failure:
                # The scope of the run before: it goes when systemd has seen its last process end.
                if failure.name not in (_EXISTS, _LOADED) or time.monotonic() > deadline:
                    raise OSError(errno.EIO, f"systemd: {failure}", self._unit) from None
            with suppress(DBusError), Connection(SOCKET, SECONDS) as systemd:
                systemd.call(_PATH, _MANAGER, "ResetFailedUnit", [("s", self._unit)])
            time.sleep(0.01)

    def _ask_for_scope(self, properties: Properties) -> None:
        with Connection(SOCKET, SECONDS) as systemd:
            arguments: list[tuple[str, Any]] = [
                ("s", self._unit),
                ("s", "fail"),
                ("a(sv)", properties),
                ("a(sa(sv))", []),
            ]
            reply, signals = systemd.call(_PATH, _MANAGER, "StartTransientUnit", arguments)
            job = reply.values()[0]
            while (result := _result(job, signals)) is None:
                signals = [systemd.receive()]
        if result != "done":
            raise OSError(errno.EIO, f"systemd did not start the scope: {result}", self._unit)

    def entry(self, beside: int = 0) -> Entry:
        """See `Cgroup.entry`; the first one has what ends the process that holds the scope."""
        entry = super().entry(beside)
        entry.holder, self._holder = self._holder, -1
        return entry

    def update(self, resources: LinuxResources) -> list[str]:
        """See `Cgroup.update`."""
        if properties := limits(resources, accounting=False):
            arguments = [("s", self._unit), ("b", True), ("a(sv)", properties)]
            try:
                with Connection(SOCKET, SECONDS) as systemd:
                    systemd.call(_PATH, _MANAGER, "SetUnitProperties", arguments)
            except DBusError as failure:
                raise OSError(errno.EINVAL, f"systemd: {failure}", self._unit) from None
        return super().update(resources)

    def remove(self, patience: float = PATIENCE) -> None:
        """See `Cgroup.remove`."""
        if self._holder >= 0:
            os.close(self._holder)
            self._holder = -1
        super().remove(patience)


def _result(job: str | int, signals: list[Message]) -> str | int | None:
    for message in signals:
        if message.member == "JobRemoved":
            values = message.values()  # number, job, unit, result
            if values[1] == job:
                return values[3]
    return None


def _hold() -> tuple[int, int]:
    """Start a process that waits until the returned descriptor is closed; return that and its pid.

    It is nobody's child: who reaps for us reaps it.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    told, tell = os.pipe2(os.O_CLOEXEC)
    try:
        middle = os.fork()
        if not middle:
            _wait_in_a_grandchild(reading, writing, tell)
        os.close(tell)
        tell = -1
        os.waitpid(middle, 0)
        pid = int(os.read(told, 32) or b"0")
        if not pid:
            raise OSError(errno.EAGAIN, "no process could be started for the scope")
        return writing, pid
    except BaseException:
        os.close(writing)
        raise
    finally:
        for descriptor in (reading, told, tell):
            if descriptor >= 0:
                os.close(descriptor)


def _wait_in_a_grandchild(reading: int, writing: int, tell: int) -> None:
    try:
        if pid := os.fork():
            os.write(tell, str(pid).encode())
        else:
            os.close(writing)
            for low, high in ((0, reading), (reading + 1, os.sysconf("SC_OPEN_MAX"))):
                os.closerange(low, min(high, 1 << 16))
            os.read(reading, 1)
    finally:
        os._exit(0)


# --- limits --------------------------------------------------------------------------------------


def limits(resources: LinuxResources, *, accounting: bool = True) -> Properties:
    """Return what systemd has properties for, so that it writes the same as we do."""
    found: list[tuple[str, Variant]] = []
    if accounting:
        names = ("CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting")
        found += [(name, Variant("b", True)) for name in names]
    if resources.memory is not None:
        found += _memory(resources.memory)
    if resources.cpu is not None:
        found += _cpu(resources.cpu)
    if resources.pids is not None and resources.pids.limit is not None:
        found.append(("TasksMax", _size(resources.pids.limit)))
    return found


def _size(value: int) -> Variant:
    return Variant("t", value if value > 0 else INFINITY)


def _memory(memory: LinuxMemory) -> Properties:
    found: list[tuple[str, Variant]] = []
    if memory.limit:
        found.append(("MemoryMax", _size(memory.limit)))
    if memory.limit or memory.swap == -1:
        swap = v2_limits.swap_limit(memory.limit or None, memory.swap or None)
        if swap is not None:
            value = Variant("t", INFINITY if swap == "max" else int(swap))
            found.append(("MemorySwapMax", value))
    if memory.reservation:
        found.append(("MemoryLow", _size(memory.reservation)))
    return found


def _cpu(cpu: LinuxCPU) -> Properties:
    found: list[tuple[str, Variant]] = []
    if cpu.shares:
        found.append(("CPUWeight", Variant("t", v2_limits.cpu_weight(cpu.shares))))
    if cpu.quota:
        period = cpu.period or 100_000
        share = INFINITY
        if cpu.quota > 0:  # systemd counts in hundredths of a processor: rounded up
            share = -(-cpu.quota * 1_000_000 // period // 10_000) * 10_000
        found.append(("CPUQuotaPerSecUSec", Variant("t", share)))
        found.append(("CPUQuotaPeriodUSec", Variant("t", period)))
    for name, text in (("AllowedCPUs", cpu.cpus), ("AllowedMemoryNodes", cpu.mems)):
        if text:
            found.append((name, Variant("ay", bit_mask(text))))
    return found


def bit_mask(text: str) -> bytes:
    """Return the set "0-2,8" as bytes, lowest number first; raises OSError for what is none."""
    mask = 0
    for part in text.split(","):
        first, dash, last = part.partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdecimal() and len(end) < 6 for end in ends) or not (
            int(ends[0]) <= int(ends[1]) < NUMBERS_AT_MOST
        ):
            raise OSError(errno.EINVAL, "no set of processors or memory nodes", text)
        for number in range(int(ends[0]), int(ends[1]) + 1):
            mask |= 1 << number
    return mask.to_bytes(max(1, (mask.bit_length() + 7) // 8), "little")
