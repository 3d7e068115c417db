"""Devices of the host in containers: by path, by rule, by name (CDI) and as GPUs."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, running
from tests.inside import body, run
from tests.session import scratch

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]

FULL = os.makedev(1, 7)  # /dev/full: a device that every kernel has, and whose reads tell it apart
OPEN = "{ true < %s; } 2>/dev/null && echo readable; { true > %s; } 2>/dev/null && echo writable"


def opens(path: str) -> str:
    """Return a script that says how a device can be opened."""
    return OPEN % (path, path)


@pytest.mark.parametrize(
    ("mapping", "path", "expected"),
    [
        ({"PathOnHost": "/dev/fuse"}, "/dev/fuse", ["readable", "writable"]),
        ({"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/log2"}, "/dev/log2", None),
        ({"PathOnHost": "/dev/fuse", "CgroupPermissions": "r"}, "/dev/fuse", ["readable"]),
        ({"PathOnHost": "/dev/fuse", "CgroupPermissions": "w"}, "/dev/fuse", ["writable"]),
        ({"PathOnHost": "/dev/fuse", "CgroupPermissions": "m"}, "/dev/fuse", []),
    ],
)
def test_a_device_can_be_opened_as_its_mode_says(
    daemon: Daemon, mapping: dict[str, str], path: str, expected: list[str] | None
) -> None:
    expected = ["readable", "writable"] if expected is None else expected
    assert run(daemon, opens(path), Devices=[mapping]).lines == expected


def test_a_device_looks_like_that_of_the_host(daemon: Daemon) -> None:
    host = os.stat("/dev/fuse")
    seen = run(daemon, "stat -c '%a %u %g %t %T' /dev/fuse", Devices=[{"PathOnHost": "/dev/fuse"}])
    numbers = f"{os.major(host.st_rdev):x} {os.minor(host.st_rdev):x}"
    assert seen.out == f"{stat.S_IMODE(host.st_mode):o} {host.st_uid} {host.st_gid} {numbers}\n"


def test_a_folder_stands_for_the_devices_in_it(daemon: Daemon) -> None:
    folder = daemon.folder / "devices"
    for name in ("one", "deeper/two"):
        (folder / name).parent.mkdir(exist_ok=True)
        os.mknod(folder / name, 0o600 | stat.S_IFCHR, FULL)
    mapping = {"PathOnHost": str(folder), "PathInContainer": "/dev/many"}
    seen = run(daemon, "cd /dev/many; find . -type c | sort", Devices=[mapping])
    assert seen.lines == ["./deeper/two", "./one"]


def test_a_rule_allows_a_device_that_the_container_makes(daemon: Daemon) -> None:
    script = f"mknod /made c 10 229 && {opens('/made')}"
    assert run(daemon, script).lines == []
    rules = ["c 10:229 r"]
    assert run(daemon, script, DeviceCgroupRules=rules).lines == ["readable"]
    assert run(daemon, script, DeviceCgroupRules=["c 10:* rwm"]).lines == ["readable", "writable"]


# --- by name -------------------------------------------------------------------------------------

SPEC: dict[str, Any] = {
    "cdiVersion": "0.6.0",
    "kind": "example.com/full",
    "containerEdits": {"env": ["FULL_DRIVER=yes"]},
    "devices": [
        {
            "name": "a",
            "containerEdits": {
                "env": ["FULL_A=1", "PATH=/driver:/bin"],
                "deviceNodes": [{"path": "/dev/full-a", "hostPath": "/dev/full", "fileMode": 384}],
            },
        },
        {
            "name": "b",
            "containerEdits": {
                "deviceNodes": [
                    {
                        "path": "/dev/kernel",
                        "type": "c",
                        "major": 10,
                        "minor": 229,
                        "permissions": "r",
                    }
                ]
            },
        },
    ],
}
GPU_YAML = """
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  hooks:
    - hookName: createRuntime
      path: /bin/sh
      args: [sh, -c, "touch {folder}/hooked"]
  mounts:
    - hostPath: {folder}/library
      containerPath: /usr/lib/library
      options: [ro, nosuid, nodev]
devices:
  - name: "0"
    containerEdits: {{deviceNodes: [{{path: /dev/gpu0, hostPath: /dev/full}}]}}
  - name: "1"
    containerEdits: {{deviceNodes: [{{path: /dev/gpu1, hostPath: /dev/full}}]}}
  - name: all
    containerEdits:
      deviceNodes:
        - {{path: /dev/gpu0, hostPath: /dev/full}}
        - {{path: /dev/gpu1, hostPath: /dev/full}}
"""


@pytest.fixture(scope="module")
def folders() -> Iterator[tuple[Path, Path]]:
    """Folders of specifications: the administrator's, and that of drivers, which wins."""
    folder = scratch()
    folder.chmod(0o755)  # the daemon reads them without any privilege
    first, second = folder / "etc", folder / "run"
    first.mkdir()
    second.mkdir()
    (first / "full.json").write_text(json.dumps(SPEC))
    (first / "broken.json").write_text("{")
    (first / "notes.txt").write_text("no specification")
    yield first, second
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def naming(folders: tuple[Path, Path]) -> Iterator[Daemon]:
    """A daemon that reads them; they can change while it runs."""
    options = [word for folder in folders for word in ("--cdi-spec-dir", str(folder))]
    with running(*options) as daemon:
        daemon.import_image()
        yield daemon


def by_name(*names: str) -> dict[str, Any]:
    """Return what the docker command sends for `--device` of a name."""
    return {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": list(names)}]}


def gpus(**fields: Any) -> dict[str, Any]:
    """Return what the docker command sends for `--gpus`."""
    return {"DeviceRequests": [{"Capabilities": [["gpu"]], **fields}]}


def test_a_device_by_name_brings_what_its_specification_says(naming: Daemon) -> None:
    script = f"echo $FULL_DRIVER $FULL_A $PATH; stat -c %a /dev/full-a; {opens('/dev/kernel')}"
    seen = run(naming, script, **by_name("example.com/full=a", "example.com/full=b"))
    assert seen.lines == ["yes 1 /driver:/bin", "600", "readable"], seen
    info = naming.request("GET", "/info").json
    assert info["CDISpecDirs"][0].endswith("/etc")
    assert [each["ID"] for each in info["DiscoveredDevices"] if each["Source"] == "cdi"] == [
        "example.com/full=a",
        "example.com/full=b",
    ]


def test_a_later_folder_wins(naming: Daemon, folders: tuple[Path, Path]) -> None:
    newer = {**SPEC, "containerEdits": {"env": ["FULL_DRIVER=newer"]}}
    (folders[1] / "full.json").write_text(json.dumps(newer))
    try:
        seen = run(naming, "echo $FULL_DRIVER", **by_name("example.com/full=a"))
    finally:
        (folders[1] / "full.json").unlink()
    assert seen.lines == ["newer"]


def test_gpus_are_devices_of_the_driver_s_kind(
    naming: Daemon, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "library").write_text("of the driver")
    specification = folders[1] / "nvidia.yaml"
    specification.write_text(GPU_YAML.format(folder=tmp_path))
    script = "cat /usr/lib/library; echo; ls /dev/gpu*; touch /usr/lib/library"
    try:
        for fields, expected in (
            ({"Count": -1}, ["/dev/gpu0", "/dev/gpu1"]),
            ({"Count": 1}, ["/dev/gpu0"]),
            ({"DeviceIDs": ["1"], "Driver": "nvidia"}, ["/dev/gpu1"]),
        ):
            seen = run(naming, script, **gpus(**fields))
            assert seen.lines == ["of the driver", *expected]
            assert "Read-only file system" in seen.err
        assert (tmp_path / "hooked").exists()
        both = naming.request(
            "POST", "/containers/create", body("true", **gpus(Count=1, DeviceIDs=["0"]))
        )
        assert both.json["message"] == "cannot set both Count and DeviceIDs on device request"
        many = naming.request("POST", "/containers/create", body("true", **gpus(Count=3)))
        assert many.json["message"].endswith("unresolvable CDI devices nvidia.com/gpu=2")
    finally:
        specification.unlink()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (by_name("example.com/full=z"), "CDI device injection failed: unresolvable CDI devices"),
        (by_name("full"), 'unqualified device "full"'),
        (gpus(Count=-1), 'could not select device driver "" with capabilities: [[gpu]]'),
        (
            gpus(Driver="nosuch", DeviceIDs=["0"]),
            'could not select device driver "nosuch" with capabilities: [[gpu]]',
        ),
    ],
)
def test_a_device_that_nothing_names_is_refused_and_nothing_is_made(
    naming: Daemon, fields: dict[str, Any], sentence: str
) -> None:
    answer = naming.request("POST", "/containers/create?name=refused", body("true", **fields))
    assert answer.status == 400
    assert sentence in answer.json["message"]
    assert naming.request("GET", "/containers/refused/json").status == 404
