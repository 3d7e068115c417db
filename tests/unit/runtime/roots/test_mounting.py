"""Destinations, device lists and copies: the parts that need no container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.runtime.roots import copyup, devices
from sampan.runtime.roots.mounting import clean
from sampan.spec.runtime import LinuxDevice


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/a/./b//c/", b"/a/b/c"),
        (b"/a/../../b", b"/b"),
        (b"", b"/"),
        (b"/proc/../proc/self", b"/proc/self"),
    ],
)
def test_destinations_are_cleaned(path: bytes, expected: bytes) -> None:
    assert clean(path) == expected


@given(st.lists(st.sampled_from([b"..", b".", b"", b"a", b"b c"]), max_size=12))
def test_a_cleaned_path_stays_below_the_root(parts: list[bytes]) -> None:
    result = clean(b"/".join(parts))
    assert result.startswith(b"/")
    assert b".." not in result.split(b"/")
    assert clean(result) == result


def test_a_device_of_the_specification_replaces_the_default_one() -> None:
    own = LinuxDevice(path="/dev/null", type="c", major=1, minor=3, file_mode=0o600)
    listed = devices.all_devices([own])
    assert [device for device in listed if device.path == "/dev/null"] == [own]
    assert len(listed) == len(devices.DEFAULT)


def test_a_tree_is_copied_without_following_links(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    target.mkdir()
    (source / "deep/file").write_bytes(b"x" * 3000000)
    (source / "deep/file").chmod(0o640)
    (source / "out").symlink_to("/etc")
    os.mkfifo(source / "fifo", 0o600)
    fds = [os.open(path, os.O_RDONLY) for path in (source, target)]
    copyup.copy(*fds)
    for fd in fds:
        os.close(fd)
    assert (target / "deep/file").read_bytes() == (source / "deep/file").read_bytes()
    assert (target / "deep/file").stat().st_mode & 0o777 == 0o640
    assert os.readlink(target / "out") == "/etc"
    assert (target / "fifo").is_fifo()
