from __future__ import annotations

import pytest

from sampan.linux.cgroups.scopes import INFINITY, bit_mask, limits
from sampan.spec.runtime import LinuxCPU, LinuxMemory, LinuxPids, LinuxResources

MIB = 1 << 20


def properties(resources: LinuxResources) -> dict[str, object]:
    return {name: variant.value for name, variant in limits(resources, accounting=False)}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (LinuxResources(), {}),
        (
            LinuxResources(memory=LinuxMemory(limit=64 * MIB, swap=100 * MIB, reservation=MIB)),
            {"MemoryMax": 64 * MIB, "MemorySwapMax": 36 * MIB, "MemoryLow": MIB},
        ),
        (
            LinuxResources(memory=LinuxMemory(limit=64 * MIB, swap=-1)),
            {"MemoryMax": 64 * MIB, "MemorySwapMax": INFINITY},
        ),
        (LinuxResources(memory=LinuxMemory(swap=-1)), {"MemorySwapMax": INFINITY}),
        (
            LinuxResources(cpu=LinuxCPU(quota=12345, period=50000, shares=1024)),
            {"CPUWeight": 100, "CPUQuotaPerSecUSec": 250000, "CPUQuotaPeriodUSec": 50000},
        ),
        (
            LinuxResources(cpu=LinuxCPU(quota=-1)),
            {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 100000},
        ),
        (
            LinuxResources(cpu=LinuxCPU(cpus="0-2,9", mems="0")),
            {"AllowedCPUs": b"\x07\x02", "AllowedMemoryNodes": b"\x01"},
        ),
        (LinuxResources(pids=LinuxPids(limit=7)), {"TasksMax": 7}),
        (LinuxResources(pids=LinuxPids(limit=-1)), {"TasksMax": INFINITY}),
    ],
)
def test_limits_become_properties(resources: LinuxResources, expected: dict[str, object]) -> None:
    assert properties(resources) == expected


def test_a_set_of_processors_is_a_mask() -> None:
    assert bit_mask("8") == b"\x00\x01"


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "2-1", "0-999999999", "9999999999999"])
def test_what_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(OSError, match="no set of processors"):
        bit_mask(text)
