"""Limits as files of cgroup v2, written to a directory that plays the cgroup."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.linux.cgroups import v2_limits
from sampan.linux.cgroups.files import Directory
from sampan.spec.runtime import (
    LinuxBlockIO,
    LinuxCPU,
    LinuxHugepageLimit,
    LinuxMemory,
    LinuxPids,
    LinuxResources,
    LinuxThrottleDevice,
    LinuxWeightDevice,
)

FILES = (
    *("memory.max", "memory.swap.max", "memory.low", "memory.current", "cpu.weight", "cpu.idle"),
    *("cpu.max", "cpu.max.burst", "cpuset.cpus", "cpuset.mems", "pids.max", "io.weight", "io.max"),
    "hugetlb.2MB.max",
)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Directory]:
    for name in FILES:
        (tmp_path / name).write_text("")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    directory = Directory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    yield directory
    directory.close()


def apply(group: Directory, **limits: object) -> list[str]:
    return v2_limits.apply(group, LinuxResources(**limits))  # type: ignore[arg-type]


def test_swap_is_limited_by_what_exceeds_memory(group: Directory) -> None:
    assert apply(group, memory=LinuxMemory(limit=100, swap=300, reservation=50)) == []
    assert group.read("memory.max") == "100"
    assert group.read("memory.swap.max") == "200"
    assert group.read("memory.low") == "50"


@pytest.mark.parametrize(
    ("memory", "swap", "expected"),
    [(100, None, None), (-1, None, "max"), (100, -1, "max"), (100, 100, "0"), (None, None, None)],
)
def test_swap_limits_are_converted(
    memory: int | None, swap: int | None, expected: str | None
) -> None:
    assert v2_limits.swap_limit(memory, swap) == expected


@pytest.mark.parametrize(("memory", "swap"), [(None, 100), (200, 100)])
def test_a_swap_limit_without_or_below_the_memory_limit_is_refused(
    memory: int | None, swap: int
) -> None:
    with pytest.raises(OSError, match="limit"):
        v2_limits.swap_limit(memory, swap)


@pytest.mark.parametrize(
    ("shares", "weight"), [(2, 1), (1, 1), (1024, 100), (262144, 10000), (512, 59), (300000, 10000)]
)
def test_shares_become_a_weight(shares: int, weight: int) -> None:
    assert v2_limits.cpu_weight(shares) == weight


def test_weights_grow_with_shares() -> None:
    weights = [v2_limits.cpu_weight(shares) for shares in range(2, 262145, 97)]
    assert weights == sorted(weights)
    assert 1 <= weights[0] <= weights[-1] <= 10000


@pytest.mark.parametrize(("old", "new"), [(10, 1), (500, 4950), (1000, 10000)])
def test_block_weights_are_converted(old: int, new: int) -> None:
    assert v2_limits.io_weight(old) == new


def test_quota_and_period_share_a_file(group: Directory) -> None:
    apply(group, cpu=LinuxCPU(quota=50000, period=100000, burst=1000, cpus="0-1", mems="0"))
    assert group.read("cpu.max").startswith("50000 100000")
    assert group.read("cpu.max.burst") == "1000"
    assert (group.read("cpuset.cpus"), group.read("cpuset.mems")) == ("0-1", "0")


def test_a_period_alone_keeps_the_quota(group: Directory) -> None:
    apply(group, cpu=LinuxCPU(period=250000))
    assert group.read("cpu.max").split()[:2] == ["max", "250000"]


@pytest.mark.parametrize(("limit", "written"), [(5, "5"), (0, "max"), (-1, "max")])
def test_no_limit_of_processes_is_max(group: Directory, limit: int, written: str) -> None:
    apply(group, pids=LinuxPids(limit=limit))
    assert group.read("pids.max") == written


def test_block_limits_go_to_io_max(group: Directory) -> None:
    block = LinuxBlockIO(
        weight_device=[LinuxWeightDevice(major=8, minor=0, weight=500)],
        throttle_read_bps_device=[LinuxThrottleDevice(major=8, minor=16, rate=1000)],
    )
    apply(group, block_io=block)
    assert group.read("io.weight") == "8:0 4950"
    assert group.read("io.max") == "8:16 rbps=1000"


def test_what_the_kernel_lacks_is_a_warning(group: Directory) -> None:
    os.unlink("cpu.idle", dir_fd=group.fd)
    warnings = apply(
        group, cpu=LinuxCPU(idle=1), memory=LinuxMemory(swappiness=5, disable_oom_killer=True)
    )
    assert len(warnings) == 3
    assert "cpu.idle" in " ".join(warnings)


def test_huge_pages_are_limited_by_size(group: Directory) -> None:
    apply(group, hugepage_limits=[LinuxHugepageLimit(page_size="2MB", limit=4096)])
    assert group.read("hugetlb.2MB.max") == "4096"
    with pytest.raises(OSError, match="Invalid argument"):
        apply(group, hugepage_limits=[LinuxHugepageLimit(page_size="../x", limit=1)])


def test_unified_values_are_written_as_they_are(group: Directory) -> None:
    apply(group, unified={"pids.max": "7"})
    assert group.read("pids.max") == "7"


@pytest.mark.parametrize("name", ["../pids.max", "/etc/passwd", "tasks", ".x", "nix.max"])
def test_a_unified_name_must_be_a_file_of_the_cgroup(group: Directory, name: str) -> None:
    with pytest.raises(OSError, match=r"unified"):
        apply(group, unified={name: "1"})


def test_a_limit_below_the_usage_is_refused_if_asked(group: Directory) -> None:
    group.write("memory.current", 500)
    with pytest.raises(OSError, match="below the current usage 500"):
        apply(group, memory=LinuxMemory(limit=100, check_before_update=True))


def test_a_sum_of_memory_and_swap_alone_counts_from_the_present_limit(group: Directory) -> None:
    group.write("memory.max", 100)
    apply(group, memory=LinuxMemory(swap=400))
    assert group.read("memory.swap.max") == "300"
    assert group.read("memory.max") == "100"
