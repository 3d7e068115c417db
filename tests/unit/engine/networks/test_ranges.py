"""What is wrong with address ranges, in Docker's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.networks.ranges import family_of, range_problems
from sampan.spec.docker.networks import IPAMConfig


def problems(subnet: str, **more: object) -> list[str]:
    return list(range_problems(IPAMConfig(subnet=subnet, **more)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"subnet": "10.0.0.0"}, "invalid subnet 10.0.0.0: invalid CIDR block notation"),
        ({"subnet": "10.0.0.0/33"}, "invalid subnet 10.0.0.0/33: invalid CIDR block notation"),
        ({"subnet": "10.0.0.1/24"}, "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
        ({"subnet": "10.0.0.0/31"}, "invalid subnet 10.0.0.0/31: it has no room for containers"),
        ({"subnet": "", "gateway": "10.0.0.1"}, "invalid subnet : invalid CIDR block notation"),
        (
            {"ip_range": "10.1.0.0/24"},
            "invalid ip-range 10.1.0.0/24: parent subnet 10.0.0.0/24 doesn't contain ip-range",
        ),
        (
            {"ip_range": "10.0.0.0/16"},
            "invalid ip-range 10.0.0.0/16: CIDR block is bigger than its parent subnet 10.0.0.0/24",
        ),
        ({"ip_range": "10.0.0.9/28"}, "invalid ip-range 10.0.0.9/28: it should be 10.0.0.0/28"),
        ({"ip_range": "fd00::/64"}, "invalid ip-range fd00::/64: parent subnet is an IPv4 block"),
        ({"ip_range": "x"}, "invalid ip-range x: invalid CIDR block notation"),
        (
            {"gateway": "10.0.1.1"},
            "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address",
        ),
        ({"gateway": "fd00::1"}, "invalid gateway fd00::1: parent subnet is an IPv4 block"),
        ({"gateway": "here"}, "invalid gateway here: invalid address"),
        (
            {"aux_address": {"router": "10.0.1.1"}},
            "invalid auxiliary address router: parent subnet 10.0.0.0/24 doesn't contain this "
            "address",
        ),
    ],
)
def test_a_bad_range_is_named(config: dict[str, object], sentence: str) -> None:
    assert problems(**{"subnet": "10.0.0.0/24", **config}) == [sentence]  # type: ignore[arg-type]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(problems("10.0.0.0/24", gateway="x", ip_range="y", aux_address={"a": "z"})) == 3


@pytest.mark.parametrize(
    "config",
    [
        {"subnet": ""},
        {"subnet": "10.0.0.0/24"},
        {"subnet": "10.0.0.0/24", "ip_range": "10.0.0.128/25", "gateway": "10.0.0.254"},
        {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1/24"},
        {"subnet": "fd00::/64", "ip_range": "fd00::/80", "gateway": "fd00::1"},
    ],
)
def test_good_ranges_pass(config: dict[str, object]) -> None:
    assert problems(**config) == []  # type: ignore[arg-type]


@given(st.text(), st.text(), st.text())
def test_any_text_is_judged(subnet: str, ip_range: str, gateway: str) -> None:
    problems(subnet, ip_range=ip_range, gateway=gateway)
    assert family_of(subnet) in (0, 4, 6)
