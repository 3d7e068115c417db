"""Which hierarchies a host has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.linux.cgroups import hierarchy
from sampan.linux.cgroups.files import components
from sampan.linux.cgroups.v1 import LegacyCgroup
from sampan.linux.cgroups.v2 import UnifiedCgroup


def mountinfo(tmp_path: Path, *mounts: tuple[str, str, str]) -> hierarchy.Hierarchies:
    """Parse lines of (name, type, options) whose mount points are directories of the test."""
    lines = ["20 1 0:20 / /proc rw - proc proc rw"]
    for number, (name, kind, options) in enumerate(mounts):
        (tmp_path / name).mkdir(exist_ok=True)
        mount = str(tmp_path / name).replace(" ", "\\040")
        lines.append(f"{30 + number} 1 0:{40 + number} / {mount} rw - {kind} {kind} {options}")
    return hierarchy.parse("\n".join(lines))


def close(host: hierarchy.Hierarchies) -> None:
    for each in host.v1:
        os.close(each.fd)
    if host.unified >= 0:
        os.close(host.unified)


def test_only_the_unified_hierarchy_is_version_2(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all/cgroup.controllers").write_text("cpu memory pids\n")
    host = mountinfo(tmp_path, ("all", "cgroup2", "rw,nsdelegate"))
    assert (host.mode, host.version) == ("unified", 2)
    assert host.controllers == {"cpu", "memory", "pids"}
    assert isinstance(hierarchy.open_cgroup("/a/b", host), UnifiedCgroup)
    close(host)


def test_controllers_of_version_1_with_the_unified_beside_are_hybrid(tmp_path: Path) -> None:
    host = mountinfo(
        tmp_path,
        ("cpu,cpuacct", "cgroup", "rw,cpu,cpuacct"),
        ("with space", "cgroup", "rw,memory"),
        ("systemd", "cgroup", "rw,xattr,release_agent=/x,name=systemd"),
        ("unified", "cgroup2", "rw"),
    )
    assert (host.mode, host.version) == ("hybrid", 1)
    controllers = [each.controllers for each in host.v1]
    assert controllers == [("cpu", "cpuacct"), ("memory",), ("name=systemd",)]
    assert isinstance(hierarchy.open_cgroup("/a", host), LegacyCgroup)
    close(host)


def test_a_named_hierarchy_alone_does_not_decide(tmp_path: Path) -> None:
    host = mountinfo(
        tmp_path, ("systemd", "cgroup", "rw,name=systemd"), ("unified", "cgroup2", "rw")
    )
    assert host.mode == "unified"
    close(host)


def test_a_host_without_cgroups_is_told(tmp_path: Path) -> None:
    assert mountinfo(tmp_path).mode == "none"


@pytest.mark.parametrize("path", ["", "/", "..", "/a/../b", "a\0b", "./.", "x" * 5000])
def test_a_path_that_names_no_group_below_the_root_is_refused(path: str) -> None:
    with pytest.raises(OSError, match="must name a group below the root"):
        components(path)


def test_a_path_is_relative_to_the_hierarchy() -> None:
    assert components("//docker/./id/") == ["docker", "id"]
