"""Ranges, gateways and addresses that belong together."""

from __future__ import annotations

import pytest

from sampan.cli.arguments.network_ranges import ranges_of
from sampan.errors import InvalidArgument


def test_each_is_with_its_subnet() -> None:
    found = ranges_of(
        ["10.1.0.0/16", "fd00::/64"],
        ["10.1.5.0/24"],
        ["fd00::1", "10.1.0.9"],
        {"router": "10.1.0.2", "printer": "10.1.0.3"},
    )
    assert found == [
        {
            "Subnet": "10.1.0.0/16",
            "IPRange": "10.1.5.0/24",
            "Gateway": "10.1.0.9",
            "AuxiliaryAddresses": {"router": "10.1.0.2", "printer": "10.1.0.3"},
        },
        {"Subnet": "fd00::/64", "Gateway": "fd00::1"},
    ]
    assert ranges_of([], [], [], {}) == []


@pytest.mark.parametrize(
    ("ranges", "gateways", "sentence"),
    [
        (["10.1.1.0/24", "10.1.2.0/24"], [], "cannot configure multiple ranges"),
        ([], ["10.1.0.1", "10.1.0.2"], "cannot configure multiple gateways"),
        ([], ["10.3.0.1"], "no matching subnet for gateway 10.3.0.1"),
        (["nowhere"], [], "no matching subnet for range nowhere"),
    ],
)
def test_two_of_one_subnet_and_one_of_none_are_refused(
    ranges: list[str], gateways: list[str], sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        ranges_of(["10.1.0.0/16", "10.2.0.0/16"], ranges, gateways, {})


def test_what_is_no_subnet_is_left_to_the_daemon() -> None:
    assert ranges_of(["here"], [], [], {}) == [{"Subnet": "here"}]
