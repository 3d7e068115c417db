"""Docker's defaults."""

from __future__ import annotations

from sampan.linux.cgroups.devices import resulting
from sampan.runtime import defaults


def test_there_are_fourteen_capabilities_and_none_is_inherited() -> None:
    sets = defaults.capabilities()
    assert len(set(defaults.CAPABILITIES)) == 14
    assert sets.bounding == sets.permitted == sets.effective == list(defaults.CAPABILITIES)
    assert sets.inheritable == sets.ambient == []  # CVE-2022-24769


def test_dangerous_paths_are_hidden_or_fixed() -> None:
    masked = defaults.masked_paths()
    assert {"/proc/kcore", "/proc/keys", "/proc/interrupts", "/sys/firmware"} <= set(masked)
    assert "/proc/sys" in defaults.READONLY_PATHS


def test_mounts_come_in_the_order_of_their_paths() -> None:
    destinations = [mount.destination for mount in defaults.mounts()]
    assert destinations.index("/dev") < destinations.index("/dev/pts")
    assert destinations.index("/sys") < destinations.index("/sys/fs/cgroup")


def test_sys_and_cgroups_are_read_only() -> None:
    mounts = {mount.destination: mount.options for mount in defaults.mounts()}
    assert "ro" in mounts["/sys"]
    assert "ro" in mounts["/sys/fs/cgroup"]  # CVE-2023-25809


def test_the_size_of_shm_is_a_choice() -> None:
    (shm,) = [mount for mount in defaults.mounts(1024) if mount.destination == "/dev/shm"]
    assert "size=1024" in shm.options


def test_every_default_device_may_be_opened_and_no_other() -> None:
    state = resulting(defaults.device_rules())
    assert not state.allow
    for device in defaults.devices():
        assert state.exceptions["c", device.major, device.minor] == frozenset("rwm")
    assert state.exceptions["c", 136, -1] == frozenset("rwm")
    assert ("c", 10, 229) not in state.exceptions  # fuse
    assert state.exceptions["b", -1, -1] == frozenset("m")


def test_a_privileged_container_may_open_all() -> None:
    assert resulting(defaults.all_devices()).allow


def test_callers_may_change_what_they_get() -> None:
    defaults.mounts()[0].options.append("x")
    defaults.masked_paths().clear()
    defaults.capabilities().bounding.clear()
    assert "x" not in defaults.mounts()[0].options
    assert defaults.masked_paths()
    assert defaults.capabilities().bounding
