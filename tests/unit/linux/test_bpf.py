"""The device program, run by an interpreter of its own in the test."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.linux import bpf
from sampan.linux.cgroups.devices import DeviceList, resulting
from sampan.spec.runtime import LinuxDeviceCgroup as Rule

ACCESS = {"m": 1, "r": 2, "w": 4}
TYPES = {"b": 1, "c": 2}


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """Interpret the few instructions that the assembler uses."""
    context = struct.pack("=III", sum(ACCESS[a] for a in access) << 16 | TYPES[kind], major, minor)
    registers: list[int] = [0] * 11
    registers[1] = -1  # the context pointer
    place = 0
    while True:
        code, regs, offset, immediate = struct.unpack_from("=BBhI", program, place * 8)
        dst, src = regs & 15, regs >> 4
        place += 1
        if code == 0x61:
            assert registers[src] == -1, "the context pointer was overwritten"
            (registers[dst],) = struct.unpack_from("=I", context, offset)
        elif code == 0xB4:
            registers[dst] = immediate
        elif code == 0xBC:
            registers[dst] = registers[src]
        elif code == 0x54:
            registers[dst] &= immediate
        elif code == 0x74:
            registers[dst] >>= immediate
        elif code == 0x16:
            place += offset if registers[dst] == immediate else 0
        elif code == 0x56:
            place += offset if registers[dst] != immediate else 0
        elif code == 0x5E:
            place += offset if registers[dst] != registers[src] else 0
        elif code == 0x95:
            return bool(registers[0])
        else:
            raise AssertionError(f"unknown instruction {code:#x}")
        assert 0 < place * 8 < len(program), "the program runs off its end"


def allowed(rules: list[Rule], kind: str, major: int, minor: int, access: str) -> bool:
    return run(bpf.device_program(resulting(rules)), kind, major, minor, access)


DENY_ALL = Rule(allow=False)


def test_nothing_is_allowed_without_a_rule() -> None:
    assert not allowed([DENY_ALL], "c", 1, 3, "r")


def test_a_rule_allows_what_it_names_and_nothing_else() -> None:
    rules = [DENY_ALL, Rule(allow=True, type="c", major=1, minor=3, access="rw")]
    assert allowed(rules, "c", 1, 3, "r")
    assert allowed(rules, "c", 1, 3, "rw")
    assert not allowed(rules, "c", 1, 3, "m")
    assert not allowed(rules, "c", 1, 3, "rm")
    assert not allowed(rules, "b", 1, 3, "r")
    assert not allowed(rules, "c", 1, 5, "r")
    assert not allowed(rules, "c", 2, 3, "r")


def test_a_missing_number_means_all() -> None:
    rules = [DENY_ALL, Rule(allow=True, type="c", major=136, access="rwm")]
    assert allowed(rules, "c", 136, 77, "rwm")
    assert not allowed(rules, "c", 137, 77, "r")


def test_a_later_rule_takes_back() -> None:
    rules = [
        DENY_ALL,
        Rule(allow=True, type="c", major=10, minor=229, access="rwm"),
        Rule(allow=False, type="c", major=10, minor=229, access="w"),
    ]
    assert allowed(rules, "c", 10, 229, "r")
    assert not allowed(rules, "c", 10, 229, "rw")


def test_after_allow_all_a_rule_forbids_any_part_of_its_access() -> None:
    rules = [Rule(allow=True), Rule(allow=False, type="b", major=8, access="w")]
    assert allowed(rules, "b", 8, 0, "r")
    assert not allowed(rules, "b", 8, 0, "rw")
    assert allowed(rules, "c", 8, 0, "rw")


def test_a_large_number_is_compared_in_full() -> None:
    rules = [DENY_ALL, Rule(allow=True, type="b", major=0xFFFFFFFF, minor=0x80000000)]
    assert allowed(rules, "b", 0xFFFFFFFF, 0x80000000, "r")
    assert not allowed(rules, "b", 0x7FFFFFFF, 0x80000000, "r")


KEYS = st.tuples(st.sampled_from("bc"), st.integers(-1, 3), st.integers(-1, 3))
ACCESSES = st.sets(st.sampled_from("rwm"), min_size=1).map(frozenset)


@given(
    st.booleans(),
    st.dictionaries(KEYS, ACCESSES, max_size=5),
    st.tuples(st.sampled_from("bc"), st.integers(0, 3), st.integers(0, 3)),
    ACCESSES,
)
def test_the_program_decides_as_the_list_says(
    default: bool,
    exceptions: dict[tuple[str, int, int], frozenset[str]],
    device: tuple[str, int, int],
    access: frozenset[str],
) -> None:
    program = bpf.device_program(DeviceList(default, exceptions))
    matching = [
        present
        for (kind, major, minor), present in exceptions.items()
        if kind == device[0] and major in (-1, device[1]) and minor in (-1, device[2])
    ]
    if default:
        expected = not any(present & access for present in matching)
    else:
        expected = any(access <= present for present in matching)
    assert run(program, *device, "".join(access)) is expected


def test_invalid_rules_are_refused() -> None:
    with pytest.raises(OSError, match="invalid device rule"):
        resulting([Rule(allow=True, type="x")])
