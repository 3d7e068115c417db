"""Entitlements: what clients grant, what daemons let them grant, which devices steps get."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sampan.build.entitlements import SUPPORTED, Entitlements
from sampan.build.instructions.model import Device
from sampan.errors import InvalidArgument
from sampan.spec.build import FoundDevice

ALL = ("network.host", "security.insecure", "device")
THERE = {
    "v.com/gpu=0": ["v.com/gpu=0"],
    "v.com/gpu=*": ["v.com/gpu=0", "v.com/gpu=1"],
    "v.com/gpu": ["v.com/gpu=0"],
    "free": ["v.com/free=0"],
}


async def find(name: str) -> Sequence[FoundDevice]:
    return [FoundDevice(name=one, auto_allow="free" in one) for one in THERE.get(name, ())]


def found(granted: str, *wanted: str, required: bool = False) -> list[str]:
    entitlements = Entitlements.parse(granted.split(), ALL)
    devices = [Device(name=name, required=required) for name in wanted]
    return asyncio.run(entitlements.found(devices, find))


@pytest.mark.parametrize(
    ("granted", "supported", "sentence"),
    [
        ("network.other", ALL, "unknown entitlement network.other"),
        ("", ALL, "unknown entitlement "),
        ("network.host=x", ALL, "unknown entitlement network.host=x"),
        ("security.insecure", SUPPORTED,
         "granting entitlement security.insecure is not allowed by build daemon configuration"),
        ("network.host", (), "granting entitlement network.host is not allowed by build daemon"),
        ("device=x", ("network.host",), "granting entitlement device is not allowed"),
        ("device=x,y", ALL, 'invalid device config "y"'),
        ("device=x,y=z", ALL, 'unknown device config key "y"'),
    ],
)  # fmt: skip
def test_what_cannot_be_granted_is_said(
    granted: str, supported: Sequence[str], sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        Entitlements.parse([granted], supported)


@pytest.mark.parametrize("network", ["host", "none", "", "mine"])
@pytest.mark.parametrize("insecure", [False, True])
def test_only_what_is_granted_is_allowed(network: str, insecure: bool) -> None:
    wanted = [name for name, asked in ((ALL[0], network == "host"), (ALL[1], insecure)) if asked]
    Entitlements.parse(wanted, ALL).check(network=network, insecure=insecure)
    for one in wanted:
        others = Entitlements.parse({*ALL} - {one}, ALL)
        with pytest.raises(InvalidArgument, match=f"^{one} is not allowed$"):
            others.check(network=network, insecure=insecure)


@pytest.mark.parametrize(
    ("granted", "wanted", "expected"),
    [
        ("device", ["v.com/gpu=*"], ["v.com/gpu=0", "v.com/gpu=1"]),
        ("device=v.com/gpu=0", ["v.com/gpu"], ["v.com/gpu=0"]),
        ("device=v.com/gpu=0,alias=gpu", ["gpu"], ["v.com/gpu=0"]),
        ("", ["free"], ["v.com/free=0"]),
        ("", ["none"], []),
        ("device", ["v.com/gpu=0", "v.com/gpu=*"], ["v.com/gpu=0", "v.com/gpu=1"]),
        ("", [], []),
    ],
)
def test_devices_that_are_granted_are_found(
    granted: str, wanted: list[str], expected: list[str]
) -> None:
    assert found(granted, *wanted) == expected


@pytest.mark.parametrize(
    ("granted", "wanted", "required", "sentence"),
    [
        ("", ["v.com/gpu=0"], False,
         "^device v.com/gpu=0 is requested by the build but not allowed$"),
        ("", ["v.com/gpu=*", "free"], False,
         "^devices v.com/gpu=0, v.com/gpu=1 are requested by the build but not allowed$"),
        ("device=v.com/gpu=0", ["v.com/gpu=*"], False, "^device v.com/gpu=1 is requested"),
        ("device", ["none"], True, '^required device "none" is not registered$'),
        ("device=none", ["v.com/gpu=0"], False, '^required device "none" is not registered$'),
    ],
)  # fmt: skip
def test_devices_that_are_not_granted_are_refused(
    granted: str, wanted: list[str], required: bool, sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        found(granted, *wanted, required=required)
