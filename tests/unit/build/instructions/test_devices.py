"""RUN --device: fields and what they must be."""

from __future__ import annotations

import pytest

from sampan.build.instructions.devices import read_device
from sampan.build.instructions.model import Device
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v.com/gpu=0", Device(name="v.com/gpu=0")),
        ("v.com/gpu=*,required", Device(name="v.com/gpu=*", required=True)),
        ("name=gpu,required=false", Device(name="gpu")),
        ("required=1,gpu", Device(name="gpu", required=True)),
    ],
)
def test_a_device_is_read(text: str, expected: Device) -> None:
    assert read_device(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a device has a name"),
        ("required", "a device has a name"),
        ("gpu,name=other", "device name already set to gpu"),
        ("gpu,other", "invalid field 'other' must be a key=value pair"),
        ("gpu,a=b", "unexpected key 'a' in 'a=b'"),
        ("gpu,required=x", "invalid value for required: x"),
        ('"gpu', "failed to parse csv devices"),
    ],
)
def test_what_is_no_device_is_said(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        read_device(text)
