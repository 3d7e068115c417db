from __future__ import annotations

import pytest

from sampan.engine.oci.resource_spec import linux_resources
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import Resources, ThrottleDevice
from sampan.spec.runtime import LinuxResources


def test_nothing_asked_for_is_nothing_limited() -> None:
    assert linux_resources(Resources()) == LinuxResources()


def test_throttled_devices_are_found_by_their_numbers() -> None:
    null = ThrottleDevice(path="/dev/null", rate=7)
    block = linux_resources(Resources(blkio_device_read_bps=[null])).block_io
    assert block
    (throttle,) = block.throttle_read_bps_device
    assert (throttle.major, throttle.minor, throttle.rate) == (1, 3, 7)
    missing = ThrottleDevice(path="/dev/no-such", rate=7)
    with pytest.raises(InvalidArgument, match="stat /dev/no-such: no such file or directory"):
        linux_resources(Resources(blkio_device_read_bps=[missing]))
