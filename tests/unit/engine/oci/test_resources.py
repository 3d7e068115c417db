"""Limits are checked against the kernel, and handed on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.host import HostFacts
from sampan.engine.oci.resources import (
    Kernel,
    parse_list,
    verify,
)
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import Resources

FACTS = HostFacts(
    cgroup_version="1",
    memory_limit=True,
    swap_limit=True,
    oom_kill_disable=True,
    cpu_quota=True,
    cpu_shares=True,
    cpuset=True,
    pids_limit=True,
    ipv4_forwarding=True,
    apparmor=False,
    seccomp=True,
    cgroup_namespaces=True,
)
KERNEL = Kernel(
    facts=FACTS,
    swappiness=True,
    reservation=True,
    blkio_weight=True,
    blkio_weight_device=True,
    blkio_throttle=True,
    cpus="0-3",
    mems="0",
)
MIB = 1 << 20


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (Resources(memory=MIB), "Minimum memory limit allowed is 6MB"),
        (Resources(memory=64 * MIB, memory_swap=8 * MIB), "memoryswap limit should be larger"),
        (Resources(memory_swap=64 * MIB), "always set the Memory limit when using Memoryswap"),
        (Resources(memory_swappiness=101), "valid memory swappiness range is 0-100"),
        (Resources(nano_cpus=10**9, cpu_quota=1000), "Nano CPUs and CPU Quota cannot both"),
        (Resources(nano_cpus=10**14), "range of CPUs is from 0.01 to"),
        (Resources(cpu_period=10), "CPU cfs period can not be less than 1ms"),
        (Resources(cpuset_cpus="0-9"), "Requested CPUs are not available - requested 0-9"),
        (Resources(cpuset_cpus="x"), "Invalid value x for cpuset cpus"),
        (Resources(blkio_weight=5), "Range of blkio weight is from 10 to 1000"),
    ],
)
def test_limits_that_can_never_work_are_refused(wanted: Resources, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        verify(wanted, KERNEL)
    assert sentence in str(refused.value)


def test_limits_that_this_kernel_lacks_are_dropped_with_a_warning() -> None:
    kernel = replace(KERNEL, facts=replace(FACTS, memory_limit=False, pids_limit=False))
    wanted = Resources(memory=64 * MIB, pids_limit=5)
    warnings = verify(wanted, kernel)
    assert len(warnings) == 2
    assert (wanted.memory, wanted.pids_limit) == (0, None)


def test_an_update_may_change_swap_alone() -> None:
    assert verify(Resources(memory_swap=64 * MIB), KERNEL, update=True) == []


@given(st.sets(st.integers(0, 99), max_size=20))
def test_a_list_of_processors_reads_back(numbers: set[int]) -> None:
    assert parse_list(",".join(map(str, sorted(numbers)))) == numbers


@given(st.text(alphabet="0123456789,- x", max_size=12))
def test_no_list_raises_anything_but_value_error(text: str) -> None:
    try:
        parse_list(text)
    except ValueError:
        pass
