"""Names, bits and sets of capabilities."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from sampan.linux import capabilities
from sampan.spec.runtime import LinuxCapabilities


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1], 16)
    raise AssertionError(field)


def test_a_name_stands_for_the_bit_of_its_number() -> None:
    assert capabilities.bits(["CAP_CHOWN", "CAP_SYS_ADMIN"]) == (1 << 0 | 1 << 21, [])


def test_unknown_names_are_returned_and_left_out() -> None:
    assert capabilities.bits(["CAP_NIX", "CAP_KILL", "KILL", "cap_kill"]) == (
        1 << 5,
        ["CAP_NIX", "KILL", "cap_kill"],
    )


@given(st.sets(st.sampled_from(capabilities.NAMES)))
def test_names_are_the_inverse_of_bits(chosen: set[str]) -> None:
    value, unknown = capabilities.bits(chosen)
    assert set(capabilities.names(value)) | set(unknown) == chosen


def test_the_last_capability_is_the_kernel_s_own() -> None:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        assert capabilities.last() == int(file.read())


def test_the_five_lists_are_compiled_one_by_one() -> None:
    sets, missing = capabilities.sets(
        LinuxCapabilities(
            bounding=["CAP_CHOWN", "CAP_KILL"],
            effective=["CAP_CHOWN"],
            permitted=["CAP_KILL"],
            inheritable=["CAP_NIX"],
            ambient=["CAP_NIX"],
        )
    )
    assert (sets.bounding, sets.effective, sets.permitted) == (33, 1, 32)
    assert (sets.inheritable, sets.ambient) == (0, 0)
    assert missing == ["CAP_NIX"]


def test_the_sets_read_are_those_that_proc_shows() -> None:
    read = capabilities.capget(os.getpid())
    assert read.effective == _status("CapEff")
    assert read.permitted == _status("CapPrm")
    assert read.inheritable == _status("CapInh")
    assert capabilities.bounding() == _status("CapBnd")
