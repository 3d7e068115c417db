"""Cgroups, as the kernel sees them."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sampan.linux import bpf
from sampan.linux.cgroups.cgroup import Cgroup
from sampan.linux.cgroups.hierarchy import detect, open_cgroup
from sampan.linux.cgroups.v2 import UnifiedCgroup
from sampan.linux.libc import NR, syscall
from sampan.spec.runtime import (
    LinuxBlockIO,
    LinuxCPU,
    LinuxDeviceCgroup,
    LinuxHugepageLimit,
    LinuxMemory,
    LinuxPids,
    LinuxResources,
    LinuxThrottleDevice,
)
from tests.session import PATIENCE, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]
MIB = 1 << 20
CLONE_INTO_CGROUP = 0x200000000  # linux/sched.h

Spawn = Callable[..., int]


@pytest.fixture
def name() -> str:
    return f"/sampan-test-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def group(name: str) -> Iterator[Cgroup]:
    """A cgroup below one of its own, both removed at the end."""
    inner = open_cgroup(f"{name}/inner")
    yield inner
    inner.kill()
    inner.remove()
    open_cgroup(name).remove()
    assert not open_cgroup(name).exists()


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start a child that enters a cgroup and then runs a function; killed at the end."""
    children: list[int] = []

    def start(group: Cgroup, body: Callable[[], object] = signal.pause) -> int:
        ready, told = os.pipe()
        with group.entry() as entry:
            pid = os.fork()
            if pid == 0:
                with suppress(BaseException):
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the test runner's
                    entry.enter()
                    os.write(told, b"1")
                    body()
                os._exit(0)
        children.append(pid)
        os.close(told)
        assert os.read(ready, 1) == b"1", "the child could not enter the cgroup"
        os.close(ready)
        return pid

    yield start
    for pid in children:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def groups_of(pid: int) -> dict[str, str]:
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    return {controllers: path for _, controllers, path in lines}


def value(group: Cgroup, controller: str, file: str) -> str:
    for mount, controllers, kind in detect().mounts():
        if controller in controllers or (kind == "cgroup2" and controller == "unified"):
            return Path(f"{mount}{group.path}/{file}").read_text().strip()
    pytest.skip(f"no controller {controller} on this host")


def has(controller: str) -> bool:
    return any(controller in controllers for _, controllers, _ in detect().mounts())


legacy = pytest.mark.skipif(detect().version != 1, reason="the host has no cgroup v1")
unified = pytest.mark.skipif(detect().unified < 0, reason="the host has no unified hierarchy")


def wait(pid: int) -> int:
    return os.waitpid(pid, 0)[1]


# --- life --------------------------------------------------------------------------------------


def test_a_process_enters_every_hierarchy(group: Cgroup, spawn: Spawn) -> None:
    group.create()
    pid = spawn(group)
    joined = groups_of(pid)
    if detect().version == 1:
        joined.pop("", None)  # entered on hybrid hosts only when it is needed
    assert set(joined.values()) == {group.path}
    assert group.pids() == [pid]


def test_a_foreign_process_can_be_moved(group: Cgroup) -> None:
    group.create()
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        group.join(pid)
        assert group.pids() == [pid]
    finally:
        os.kill(pid, signal.SIGKILL)
        wait(pid)


def test_a_cgroup_with_processes_is_not_taken_over(group: Cgroup, spawn: Spawn) -> None:
    group.create()
    pid = spawn(group)
    with pytest.raises(OSError, match="has processes already"):
        open_cgroup(group.path).create()
    assert group.pids() == [pid]


def test_nothing_is_left_of_a_cgroup_whose_limits_are_refused(group: Cgroup) -> None:
    with pytest.raises(OSError, match=r"cpuset.cpus"):
        group.create(LinuxResources(cpu=LinuxCPU(cpus="4096")))
    assert not group.exists()


def test_removing_what_is_gone_is_no_error(group: Cgroup) -> None:
    group.create()
    group.remove()
    group.remove()
    assert not group.exists()


def test_removal_waits_for_a_dying_process(group: Cgroup, spawn: Spawn) -> None:
    group.create()
    pid = spawn(group, lambda: time.sleep(0.15))
    group.remove()
    assert not group.exists()
    assert wait(pid) == 0


def test_removal_gives_up_on_a_living_process(group: Cgroup, spawn: Spawn) -> None:
    group.create()
    spawn(group)
    with pytest.raises(OSError, match="busy"):
        group.remove(patience=0.02)


def test_removal_takes_cgroups_below_with_it(group: Cgroup) -> None:
    group.create()
    open_cgroup(group.path + "/made/by/container").create()
    group.remove()
    assert not group.exists()


def test_removal_needs_no_patience_for_cgroups_in_which_nothing_runs(group: Cgroup) -> None:
    group.create()
    for name in ("made/by/container", "made/as/well", "third"):
        open_cgroup(f"{group.path}/{name}").create()
    group.remove(0)
    assert not group.exists()


# --- limits ------------------------------------------------------------------------------------


@legacy
def test_limits_are_those_of_the_kernel(group: Cgroup) -> None:
    warnings = group.create(
        LinuxResources(
            memory=LinuxMemory(limit=64 * MIB, swap=128 * MIB, reservation=32 * MIB, swappiness=10),
            cpu=LinuxCPU(shares=512, quota=50000, period=100000, cpus="0", mems="0"),
            pids=LinuxPids(limit=50),
        )
    )
    assert warnings == []
    assert value(group, "memory", "memory.limit_in_bytes") == str(64 * MIB)
    assert value(group, "memory", "memory.memsw.limit_in_bytes") == str(128 * MIB)
    assert value(group, "memory", "memory.soft_limit_in_bytes") == str(32 * MIB)
    assert value(group, "memory", "memory.swappiness") == "10"
    assert value(group, "cpu", "cpu.shares") == "512"
    assert value(group, "cpu", "cpu.cfs_quota_us") == "50000"
    assert value(group, "cpuset", "cpuset.cpus") == "0"
    assert value(group, "pids", "pids.max") == "50"


@legacy
@pytest.mark.parametrize(
    ("before", "after"), [((32, 64), (128, 256)), ((128, 256), (32, 64)), ((32, 32), (64, -1))]
)
def test_memory_and_swap_move_in_either_direction(
    group: Cgroup, before: tuple[int, int], after: tuple[int, int]
) -> None:
    group.create(LinuxResources(memory=LinuxMemory(limit=before[0] * MIB, swap=before[1] * MIB)))
    swap = after[1] * MIB if after[1] > 0 else -1
    group.update(LinuxResources(memory=LinuxMemory(limit=after[0] * MIB, swap=swap)))
    assert value(group, "memory", "memory.limit_in_bytes") == str(after[0] * MIB)
    written = value(group, "memory", "memory.memsw.limit_in_bytes")
    assert (written == str(swap)) if swap > 0 else int(written) > 1 << 60


@legacy
def test_an_unlimited_memory_unlimits_the_swap(group: Cgroup) -> None:
    group.create(LinuxResources(memory=LinuxMemory(limit=32 * MIB, swap=64 * MIB)))
    group.update(LinuxResources(memory=LinuxMemory(limit=-1)))
    assert int(value(group, "memory", "memory.limit_in_bytes")) > 1 << 60


@legacy
@pytest.mark.parametrize("after", [(5000, 6000), (900000, 1000000)])
def test_quota_and_period_move_in_either_direction(group: Cgroup, after: tuple[int, int]) -> None:
    group.create(LinuxResources(cpu=LinuxCPU(quota=50000, period=100000)))
    group.update(LinuxResources(cpu=LinuxCPU(quota=after[0], period=after[1])))
    assert value(group, "cpu", "cpu.cfs_quota_us") == str(after[0])
    assert value(group, "cpu", "cpu.cfs_period_us") == str(after[1])


@legacy
def test_a_burst_fits_its_quota(group: Cgroup) -> None:
    group.create(LinuxResources(cpu=LinuxCPU(quota=50000, period=100000, burst=20000)))
    assert value(group, "cpu", "cpu.cfs_burst_us") == "20000"


@legacy
def test_no_limit_of_processes_can_be_restored(group: Cgroup) -> None:
    group.create(LinuxResources(pids=LinuxPids(limit=9)))
    group.update(LinuxResources(pids=LinuxPids(limit=-1)))
    assert value(group, "pids", "pids.max") == "max"


@legacy
def test_block_devices_are_throttled(group: Cgroup) -> None:
    number = Path("/sys/block").iterdir()
    device = next(path for path in number if (path / "dev").exists())
    major, minor = map(int, (device / "dev").read_text().split(":"))
    throttle = LinuxThrottleDevice(major=major, minor=minor, rate=MIB)
    group.create(LinuxResources(block_io=LinuxBlockIO(throttle_read_bps_device=[throttle])))
    written = value(group, "blkio", "blkio.throttle.read_bps_device")
    assert written == f"{major}:{minor} {MIB}"


@legacy
def test_a_value_that_the_kernel_refuses_is_named(group: Cgroup) -> None:
    group.create()
    with pytest.raises(OSError, match='failed to write "999": Invalid argument') as caught:
        group.update(LinuxResources(memory=LinuxMemory(swappiness=999)))
    assert caught.value.filename == "memory.swappiness"


@pytest.mark.skipif(has("net_cls"), reason="the host has network classes")
def test_a_missing_controller_is_a_warning(group: Cgroup) -> None:
    from sampan.spec.runtime import LinuxNetwork

    warnings = group.create(LinuxResources(network=LinuxNetwork(class_id=5)))
    expected = "cgroup v2 has no network classes; they are discarded"
    if detect().version == 1:
        expected = "the cgroup controller net_cls is not available here; its limits are discarded"
    assert warnings == [expected]


@pytest.mark.skipif("hugetlb" not in detect().controllers, reason="hugetlb is not on v2 here")
def test_huge_pages_are_limited_beside_version_1(group: Cgroup, spawn: Spawn) -> None:
    size = next(Path("/sys/kernel/mm/hugepages").iterdir()).name
    if not size:
        pytest.skip("no huge pages")
    limit = LinuxHugepageLimit(page_size="2MB", limit=2 * MIB)
    assert group.create(LinuxResources(hugepage_limits=[limit])) == []
    assert value(group, "unified", "hugetlb.2MB.max") == str(2 * MIB)
    pid = spawn(group)
    assert groups_of(pid)[""] == group.path
    assert "2MB" in group.statistics().hugetlb


# --- devices -----------------------------------------------------------------------------------


def _opens(path: str, flags: int) -> Callable[[], object]:
    def body() -> None:
        try:
            os.close(os.open(path, flags))
        except PermissionError:
            os._exit(13)
        os._exit(42)

    return body


NULL_READABLE = [
    LinuxDeviceCgroup(allow=False),
    LinuxDeviceCgroup(allow=True, type="c", major=1, minor=3, access="r"),
]


@pytest.mark.parametrize(
    ("path", "flags", "code"),
    [("/dev/null", os.O_RDONLY, 42), ("/dev/null", os.O_RDWR, 13), ("/dev/zero", os.O_RDONLY, 13)],
)
def test_only_listed_devices_can_be_opened(
    group: Cgroup, spawn: Spawn, path: str, flags: int, code: int
) -> None:
    group.create(LinuxResources(devices=NULL_READABLE))
    assert os.waitstatus_to_exitcode(wait(spawn(group, _opens(path, flags)))) == code


def test_the_list_changes_while_processes_run(group: Cgroup, spawn: Spawn) -> None:
    group.create(LinuxResources(devices=NULL_READABLE))
    zero = LinuxDeviceCgroup(allow=True, type="c", major=1, minor=5)
    group.update(LinuxResources(devices=[LinuxDeviceCgroup(allow=False), zero]))
    assert os.waitstatus_to_exitcode(wait(spawn(group, _opens("/dev/zero", os.O_RDWR)))) == 42
    assert os.waitstatus_to_exitcode(wait(spawn(group, _opens("/dev/null", os.O_RDONLY)))) == 13


def test_all_devices_can_be_allowed_again(group: Cgroup, spawn: Spawn) -> None:
    group.create(LinuxResources(devices=NULL_READABLE))
    group.update(LinuxResources(devices=[LinuxDeviceCgroup(allow=True)]))
    assert os.waitstatus_to_exitcode(wait(spawn(group, _opens("/dev/zero", os.O_RDWR)))) == 42


# --- the unified hierarchy ---------------------------------------------------------------------


@pytest.fixture
def v2(name: str) -> Iterator[UnifiedCgroup]:
    group = UnifiedCgroup(detect().unified, f"{name}/inner")
    yield group
    group.kill()
    group.remove()
    UnifiedCgroup(detect().unified, name).remove()


def _clone_into(group: UnifiedCgroup, body: Callable[[], object] = signal.pause) -> int:
    with group.entry() as entry:
        arguments = struct.pack(
            "=11Q", CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, *[0] * 5, entry.into
        )
        buffer = ctypes.create_string_buffer(arguments, len(arguments))
        pid = syscall(NR["clone3"], buffer, len(arguments))
        if pid == 0:
            with suppress(BaseException):
                body()
            os._exit(0)
    return pid


@unified
def test_a_child_is_born_into_the_unified_cgroup(v2: UnifiedCgroup) -> None:
    v2.create()
    pid = _clone_into(v2)
    assert groups_of(pid)[""] == v2.path
    assert v2.pids() == [pid]
    v2.kill()
    assert os.waitstatus_to_exitcode(wait(pid)) == -signal.SIGKILL


@unified
def test_the_unified_freezer_stops_and_killing_ends_frozen_processes(v2: UnifiedCgroup) -> None:
    v2.create()
    pid = _clone_into(v2)
    v2.freeze()
    assert v2.is_frozen()
    v2.thaw()
    assert not v2.is_frozen()
    v2.freeze()
    v2.kill()
    assert os.waitstatus_to_exitcode(wait(pid)) == -signal.SIGKILL


@unified
@pytest.mark.parametrize(
    ("path", "flags", "code"),
    [("/dev/null", os.O_RDONLY, 42), ("/dev/null", os.O_RDWR, 13), ("/dev/zero", os.O_RDONLY, 13)],
)
def test_the_device_program_decides(v2: UnifiedCgroup, path: str, flags: int, code: int) -> None:
    assert v2.create(LinuxResources(devices=NULL_READABLE)) == []
    assert os.waitstatus_to_exitcode(wait(_clone_into(v2, _opens(path, flags)))) == code


@unified
def test_a_new_device_program_replaces_the_old_one(v2: UnifiedCgroup) -> None:
    v2.create(LinuxResources(devices=NULL_READABLE))
    zero = LinuxDeviceCgroup(allow=True, type="c", major=1, minor=5)
    v2.update(LinuxResources(devices=[LinuxDeviceCgroup(allow=False), zero]))
    with v2.directory() as directory:
        assert directory is not None
        programs = bpf.attached(directory.fd)
        for program in programs:
            os.close(program)
    assert len(programs) == 1
    assert os.waitstatus_to_exitcode(wait(_clone_into(v2, _opens("/dev/zero", os.O_RDWR)))) == 42
    v2.update(LinuxResources(devices=[LinuxDeviceCgroup(allow=True)]))
    assert os.waitstatus_to_exitcode(wait(_clone_into(v2, _opens("/dev/null", os.O_RDWR)))) == 42


# --- processes ---------------------------------------------------------------------------------


def test_a_frozen_process_does_not_run(group: Cgroup, spawn: Spawn) -> None:
    group.create()
    reader, writer = os.pipe()
    # Blocked in time: a signal that is fatal reaches even the frozen.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    pid = spawn(group, lambda: (signal.sigwait({signal.SIGUSR1}), os.write(writer, b"1")))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(writer)
    group.freeze()
    assert group.is_frozen()
    os.kill(pid, signal.SIGUSR1)
    assert select.select([reader], [], [], 0.05)[0] == []
    group.thaw()
    assert not group.is_frozen()
    assert select.select([reader], [], [], PATIENCE)[0] == [reader]
    os.close(reader)


@pytest.mark.parametrize("frozen", [False, True])
def test_killing_reaches_every_process(group: Cgroup, spawn: Spawn, frozen: bool) -> None:
    group.create()
    pids = [spawn(group) for _ in range(3)]
    if frozen:
        group.freeze()
    group.kill()
    assert [os.waitstatus_to_exitcode(wait(pid)) for pid in pids] == [-signal.SIGKILL] * 3
    assert group.pids() == []


def test_killing_outruns_a_process_that_forks_without_end(group: Cgroup, spawn: Spawn) -> None:
    def bomb() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            with suppress(OSError):
                if os.fork() == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    group.create(LinuxResources(pids=LinuxPids(limit=20)))
    pid = spawn(group, bomb)
    eventually(lambda: len(group.pids()) > 10)
    group.kill()
    assert os.waitstatus_to_exitcode(wait(pid)) == -signal.SIGKILL
    eventually(lambda: group.pids() == [])


def test_nobody_freezes_itself(group: Cgroup) -> None:
    group.create()
    with group.entry() as entry:
        pid = os.fork()
        if pid == 0:
            entry.enter()
            try:
                group.freeze()
            except OSError as failure:
                os._exit(failure.errno or 0)
            os._exit(0)
    assert os.waitstatus_to_exitcode(wait(pid)) == errno.EDEADLK


def test_a_process_that_kills_its_own_cgroup_kills_the_others(group: Cgroup, spawn: Spawn) -> None:
    group.create()
    other = spawn(group)
    with group.entry() as entry:
        pid = os.fork()
        if pid == 0:
            entry.enter()
            group.kill()
            os._exit(0)
    assert os.waitstatus_to_exitcode(wait(other)) == -signal.SIGKILL
    wait(pid)


def test_a_signal_reaches_every_process_once(group: Cgroup, spawn: Spawn) -> None:
    group.create()
    pids = [spawn(group) for _ in range(2)]
    group.signal(signal.SIGTERM)
    assert [os.waitstatus_to_exitcode(wait(pid)) for pid in pids] == [-signal.SIGTERM] * 2


def test_processes_of_cgroups_below_are_listed_and_killed(group: Cgroup, spawn: Spawn) -> None:
    group.create()
    below = open_cgroup(group.path + "/below")
    below.create()
    pid = spawn(below)
    assert group.pids() == [pid]
    group.kill()
    assert os.waitstatus_to_exitcode(wait(pid)) == -signal.SIGKILL


def test_a_cgroup_that_does_not_exist_is_empty(name: str) -> None:
    group = open_cgroup(name)
    assert group.pids() == []
    assert not group.is_frozen()
    group.kill()
    with pytest.raises(FileNotFoundError):
        group.entry()


# --- knowledge ---------------------------------------------------------------------------------


def test_what_was_used_is_counted(group: Cgroup, spawn: Spawn) -> None:
    group.create(LinuxResources(memory=LinuxMemory(limit=64 * MIB), pids=LinuxPids(limit=5)))
    reader, writer = os.pipe()

    def work() -> None:
        kept = bytearray(8 * MIB)
        end = time.process_time() + 0.03
        while time.process_time() < end:
            kept[0] += 0
        os.write(writer, b"1")
        signal.pause()

    spawn(group, work)
    assert os.read(reader, 1) == b"1"
    read = group.statistics()
    assert read.cpu.total >= 20_000_000
    assert (read.pids, read.pids_limit) == (1, 5)
    assert read.memory.usage >= 8 * MIB
    assert read.memory.limit == 64 * MIB
    assert read.memory.stat
    for fd in (reader, writer):
        os.close(fd)


def test_running_out_of_memory_is_told(group: Cgroup, spawn: Spawn) -> None:
    group.create(LinuxResources(memory=LinuxMemory(limit=8 * MIB, swap=8 * MIB)))
    event = group.oom_event()
    assert group.oom_kills() == 0
    pid = spawn(group, lambda: bytearray(64 * MIB).count(1))
    assert os.waitstatus_to_exitcode(wait(pid)) == -signal.SIGKILL
    assert select.select([event], [], [], PATIENCE)[0] == [event]
    assert group.oom_kills() == 1
    os.close(event)
