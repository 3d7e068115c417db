"""The device list as the v1 controller has it."""

from __future__ import annotations

import pytest

from sampan.linux.cgroups import devices
from sampan.linux.cgroups.devices import DeviceList, resulting
from sampan.spec.runtime import LinuxDeviceCgroup as Rule


def test_the_list_starts_with_nothing_allowed() -> None:
    assert resulting([]) == DeviceList()


def test_a_rule_for_all_devices_resets_the_list() -> None:
    rules = [Rule(allow=True, type="c", major=1, minor=3), Rule(allow=True)]
    assert resulting(rules) == DeviceList(allow=True)


def test_rules_for_one_device_add_up() -> None:
    rules = [Rule(allow=True, type="c", major=1, minor=3, access=letter) for letter in "rw"]
    assert resulting(rules).exceptions == {("c", 1, 3): frozenset("rw")}


def test_an_exception_taken_back_whole_is_gone() -> None:
    rules = [Rule(allow=value, type="c", major=1, minor=3) for value in (True, False)]
    assert resulting(rules) == DeviceList()


def test_a_hole_in_a_wildcard_is_refused() -> None:
    rules = [
        Rule(allow=True, type="c", major=10),
        Rule(allow=False, type="c", major=10, minor=229),
    ]
    with pytest.raises(OSError, match="makes a hole"):
        resulting(rules)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(allow=True, type="p"),
        Rule(allow=True, type="c", access="rwx"),
        Rule(allow=True, type="c", major=1 << 33),
        Rule(allow=True, type="c\nb"),
    ],
)
def test_what_is_no_rule_is_refused(rule: Rule) -> None:
    with pytest.raises(OSError, match="invalid device rule"):
        resulting([rule])


def test_the_kernel_s_listing_is_understood() -> None:
    assert devices.parse("a *:* rwm\n") == DeviceList(allow=True)
    listing = "c 1:3 rwm\nc 136:* rw\nb *:* m\n"
    assert devices.parse(listing).exceptions == {
        ("c", 1, 3): frozenset("rwm"),
        ("c", 136, -1): frozenset("rw"),
        ("b", -1, -1): frozenset("m"),
    }


def test_a_rule_is_written_as_the_kernel_reads_it() -> None:
    assert devices.line(Rule(allow=True, type="c", major=1, minor=3)) == "c 1:3 rwm"
    assert devices.line(Rule(allow=True, type="b", access="m")) == "b *:* m"
    assert devices.line(Rule(allow=True)) == "a *:* rwm"
