"""Reading bundles."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.ocirun import bundle
from sampan.runtime import defaults
from sampan.spec.runtime import Linux, Spec


def write(tmp_path: Path, **changes: Any) -> str:
    document = {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"args": ["sh"], "cwd": "/"},
        **changes,
    }
    (tmp_path / "config.json").write_text(json.dumps(document))
    return str(tmp_path)


def test_the_runtime_s_devices_end_every_list(tmp_path: Path) -> None:
    rules = [{"allow": False, "access": "rwm"}]
    spec = bundle.load(write(tmp_path, linux={"resources": {"devices": rules}}))
    assert spec.linux is not None
    assert spec.linux.resources is not None
    assert spec.linux.resources.devices[1:] == defaults.runtime_device_rules()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ociVersion": "x"}, "no valid version"),
        ({"ociVersion": "2.0.0"}, "not supported"),
        ({"root": None}, "root must not be empty"),
        ({"process": None}, "process property must not be empty"),
        ({"process": {"args": [], "cwd": "/"}}, "args must not be empty"),
        ({"process": {"args": ["a"], "cwd": "b"}}, "Cwd must be an absolute path"),
        ({"mounts": [{"destination": ""}]}, "destination must not be empty"),
        ({"process": 5}, "no valid specification"),
    ],
)
def test_a_broken_specification_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        bundle.load(write(tmp_path, **changes))


def test_a_missing_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"config\.json not found"):
        bundle.load(str(tmp_path))


def test_a_fifo_is_no_document(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InvalidArgument, match="no regular file"):
        bundle.load(str(tmp_path))


def test_garbage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff{")
    with pytest.raises(InvalidArgument, match="no valid specification"):
        bundle.load(str(tmp_path))


@pytest.mark.parametrize(
    ("wanted", "systemd", "path"),
    [
        ("/libpod/x", False, "/libpod/x"),
        ("relative/x", False, "/relative/x"),
        ("", False, "/id"),
        ("system.slice:docker:abc", True, "/system.slice/docker-abc.scope"),
        ("a-b-c.slice:p:n", False, "/a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
        ("-.slice:p:n", True, "/p-n.scope"),
        (":p:n", True, "/system.slice/p-n.scope"),
        ("user.slice::n", True, "/user.slice/n.scope"),
        ("", True, "/system.slice/sampan-id.scope"),
    ],
)
def test_cgroup_paths_come_in_two_forms(wanted: str, systemd: bool, path: str) -> None:
    spec = Spec(linux=Linux(cgroups_path=wanted))
    assert bundle.cgroup_path(spec, "id", systemd=systemd) == path


@pytest.mark.parametrize(
    "wanted", ["/a/b", "a.slice:b", "x:y:z", "a--b.slice:p:n", "a/b.slice:p:n"]
)
def test_a_path_that_is_none_of_systemd_s_is_refused(wanted: str) -> None:
    with pytest.raises(InvalidArgument):
        bundle.cgroup_path(Spec(linux=Linux(cgroups_path=wanted)), "id", systemd=True)
