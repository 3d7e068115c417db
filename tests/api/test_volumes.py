"""Volumes on a real daemon: what the kernel shows inside containers, what is left on the disk."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.session import eventually, unique
from tests.volume_box import Box

pytestmark = pytest.mark.privileged


@pytest.fixture
def box(daemon: Daemon) -> Iterator[Box]:
    found = Box(daemon)
    yield found
    found.clear()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Return a folder of the host that containers may see."""
    folder = tmp_path / "host"
    folder.mkdir()
    return folder


def data(box: Box, name: str) -> Path:
    return box.daemon.data_root / "volumes" / name / "_data"


# --- named and anonymous volumes -----------------------------------------------------------------


def test_a_named_volume_outlives_its_containers_and_is_seen_by_both_sides(box: Box) -> None:
    box.run("echo one > /v/a", Binds=["shared:/v"])
    assert (data(box, "shared") / "a").read_text() == "one\n"
    (data(box, "shared") / "b").write_text("two\n")
    assert box.run("cat /v/a /v/b", Binds=["shared:/v:ro"]) == "one\ntwo\n"
    assert "Read-only file system" in box.run("touch /v/c", Binds=["shared:/v:ro"])


def test_a_new_volume_has_what_the_image_has_there(box: Box) -> None:
    listed = box.run("ls -ln /v1 /etc | grep -v ^total | grep -v :$ | sort -u | wc -l")
    assert listed
    box.run("true", Binds=["v1:/bin"])
    image = box.run("ls -lni /bin/busybox /bin/sh | awk '{print $2, $4, $5}'")
    volume = box.run("ls -lni /x/busybox /x/sh | awk '{print $2, $4, $5}'", Binds=["v1:/x"])
    assert image == volume
    empty = box.run("ls /bin2 | wc -l", Binds=["v2:/bin2"])
    assert empty == "0\n"
    assert box.run("/v/busybox ls /v | wc -l", Binds=["v1:/v"]) != "0\n"
    refused = box.create("sh", "-c", "ls", Binds=["v3:/bin:nocopy"])
    assert refused.status == 201
    assert list(data(box, "v3").iterdir()) == []


def test_the_image_s_content_is_there_before_the_first_start(box: Box) -> None:
    box.made("true", Binds=["v1:/bin"])
    assert (data(box, "v1") / "busybox").exists()


def test_anonymous_volumes_go_with_rm_v_and_with_rm(box: Box) -> None:
    config = {"Volumes": {"/anonymous": {}}}
    box.run("echo x > /anonymous/x", config=config, Binds=["named:/n"])
    (anonymous,) = [name for name in box.volumes() if name != "named"]
    assert (data(box, anonymous) / "x").exists()
    box.remove(box.last, "")
    assert set(box.volumes()) == {"named", anonymous}
    box.run("true", config=config, Binds=["named:/n"])
    box.remove(box.last, "?v=1")
    assert set(box.volumes()) == {"named", anonymous}
    container = box.made("true", config=config, AutoRemove=True)
    assert len(box.volumes()) == 3
    box.start(container)
    eventually(lambda: set(box.volumes()) == {"named", anonymous})
    report = box.daemon.request("POST", "/volumes/prune").json
    assert report["VolumesDeleted"] == [anonymous]
    assert report["SpaceReclaimed"] == 2
    eventually(lambda: not list((box.daemon.data_root / "volumes/.trash").iterdir()))


def test_a_volume_in_use_is_not_removed(box: Box) -> None:
    container = box.made("true", Binds=["used:/v"])
    answer = box.daemon.request("DELETE", "/volumes/used")
    assert answer.status == 409
    assert answer.json["message"] == f"remove used: volume is in use - [{container}]"
    assert box.daemon.request("DELETE", "/volumes/nothing").status == 404
    assert box.daemon.request("DELETE", "/volumes/nothing?force=1").status == 204


def test_inspect_has_the_mounts_in_docker_s_form(box: Box, host: Path) -> None:
    mounts: list[dict[str, Any]] = [
        {"Type": "tmpfs", "Target": "/tmpfs"},
        {"Type": "volume", "Source": "other", "Target": "/other", "ReadOnly": True},
        {"Type": "image", "Source": "busybox", "Target": "/image"},
    ]
    container = box.made("true", Binds=["named:/named", f"{host}:/host:ro"], Mounts=mounts)
    found = box.mounts(container)
    assert found["/named"] == {
        "Type": "volume", "Name": "named", "Source": str(data(box, "named")),
        "Destination": "/named", "Driver": "local", "Mode": "z", "RW": True, "Propagation": "",
    }  # fmt: skip
    assert found["/host"] == {
        "Type": "bind", "Source": str(host), "Destination": "/host", "Mode": "ro", "RW": False,
        "Propagation": "rprivate",
    }  # fmt: skip
    assert (found["/other"]["RW"], found["/other"]["Mode"]) == (False, "z")
    assert found["/tmpfs"]["Type"] == "tmpfs"
    assert (found["/image"]["Type"], found["/image"]["Source"]) == ("image", "busybox")
    assert box.volumes(dangling=["true"]) == []


def test_disk_use_counts_volumes(box: Box) -> None:
    box.run("head -c 5000 /dev/zero > /v/x", Binds=["counted:/v"])
    (found,) = box.daemon.request("GET", "/system/df?type=volume").json["Volumes"]
    assert (found["Name"], found["UsageData"]) == ("counted", {"RefCount": 1, "Size": 5000})
    items = box.daemon.request("GET", "/system/df?verbose=1").json["Storage"]
    (item,) = [item for item in items if item["Kind"] == "Volumes"]
    assert item["Count"] == 1
    assert item["Size"] >= 8192


# --- what the options mean to the kernel ---------------------------------------------------------


def test_binds_are_followed_both_ways_and_may_be_single_files(box: Box, host: Path) -> None:
    (host / "file").write_text("before\n")
    binds = [f"{host}:/dir", f"{host}/file:/single:ro", f"{host}/made/deep:/made"]
    out = box.run("cat /single /dir/file; echo new > /dir/new; ls -d /made", Binds=binds)
    assert out == "before\nbefore\n/made\n"
    assert (host / "new").read_text() == "new\n"
    assert (host / "made/deep").is_dir()
    assert "Read-only" in box.run("echo x > /single", Binds=binds)


def test_a_single_file_is_followed_when_an_editor_replaces_it(box: Box, host: Path) -> None:
    """Editors write a new file and rename it over the old one: another inode."""
    (host / "file").write_text("before\n")
    command = "until grep -q end /x/file; do sleep 0.02; done; cat /x/file; touch /x/file"
    container = box.started("sh", "-c", command, Binds=[f"{host}/file:/x/file:ro"])
    eventually(lambda: is_watched(box, host))

    def replaced(content: str) -> None:
        (host / "new").write_text(content)
        os.rename(host / "new", host / "file")

    for number in range(3):
        replaced(f"after {number}\n")

    process = Path(f"/proc/{box.inspect(container)['State']['Pid']}")

    def seen() -> bool:
        with contextlib.suppress(OSError):
            return (process / "root/x/file").read_text() == "after 2\n"
        return False

    eventually(seen)
    eventually(lambda: (process / "mounts").read_text().count(" /x/file ") == 1)
    box.daemon.kill()
    box.daemon.start()
    eventually(lambda: is_watched(box, host))
    replaced("the end\n")
    assert box.output(container) == "the end\ntouch: /x/file: Read-only file system\n"


def is_watched(box: Box, folder: Path) -> bool:
    """Tell whether the daemon has its eye on a folder."""
    mark = re.compile(rf"^inotify wd:\w+ ino:{folder.stat().st_ino:x} ", re.M)
    for pid in box.daemon.processes():
        entries: list[Path] = []
        with contextlib.suppress(OSError):  # it has ended
            entries += Path(f"/proc/{pid}/fdinfo").iterdir()
        for entry in entries:
            with contextlib.suppress(OSError):
                if mark.search(entry.read_text()):
                    return True
    return False


def test_what_replaces_a_single_file_must_be_a_file(box: Box, host: Path) -> None:
    (host / "file").write_text("before\n")
    command = "until test -e /v/go; do sleep 0.02; done; cat /x/file"
    binds = [f"{host}/file:/x/file", "v1:/v"]
    container = box.started("sh", "-c", command, Binds=binds)
    eventually(lambda: is_watched(box, host))
    os.unlink(host / "file")
    (host / "file").mkdir()
    eventually(lambda: "goes on with the old" in box.daemon.log)
    (data(box, "v1") / "go").write_text("")
    assert box.output(container) == "before\n"


def test_a_recursive_bind_has_what_is_mounted_below_and_can_be_told_not_to(
    box: Box, host: Path
) -> None:
    (host / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", unique(), host / "sub"], check=True)
    try:
        (host / "sub/inside").write_text("")
        mount = {"Type": "bind", "Source": str(host), "Target": "/v"}

        def shown(command: str, **options: Any) -> str:
            given = {**mount, **options}
            return box.run(f"{command}; true", Mounts=[given]).strip()

        plain = {"BindOptions": {"NonRecursive": True}}
        assert shown("ls /v/sub") == "inside"
        assert shown("ls /v/sub", **plain) == ""
        assert "Read-only" in shown("touch /v/sub/x", ReadOnly=True)
        writable = {"BindOptions": {"ReadOnlyNonRecursive": True}, "ReadOnly": True}
        assert shown("touch /v/sub/x && echo made", **writable) == "made"
        assert "Read-only" in shown("touch /v/x", **writable)
    finally:
        subprocess.run(["umount", host / "sub"], check=True)


@pytest.mark.parametrize(("mode", "arrives"), [("rslave", True), ("rprivate", False)])
def test_propagation_is_what_was_asked_for(box: Box, host: Path, mode: str, arrives: bool) -> None:
    subprocess.run(["mount", "--bind", host, host], check=True)
    subprocess.run(["mount", "--make-shared", host], check=True)
    try:
        (host / "sub").mkdir()
        command = "touch /v/ready; until ls /v | grep -q go; do sleep 0.02; done; ls /v/sub"
        container = box.started("sh", "-c", command, Binds=[f"{host}:/v:{mode}"])
        eventually(lambda: (host / "ready").exists())
        subprocess.run(["mount", "-t", "tmpfs", unique(), host / "sub"], check=True)
        (host / "sub/inside").write_text("")
        (host / "go").write_text("")
        assert box.output(container) == ("inside\n" if arrives else "")
        subprocess.run(["umount", host / "sub"], check=True)
    finally:
        subprocess.run(["umount", "-R", host], check=True)


def test_a_tmpfs_has_its_size_mode_and_options(box: Box) -> None:
    options = {"SizeBytes": 1 << 20, "Mode": 0o1770, "Options": [["exec"]]}
    mounts = [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": options}]
    line = box.run("grep ' /t ' /proc/mounts; stat -c %a /t", Mounts=mounts)
    assert "size=1024k" in line
    assert "mode=1770" in line
    assert "noexec" not in line
    assert "nosuid,nodev" in line
    assert line.endswith("1770\n")


def test_a_subpath_of_a_volume_is_all_that_is_seen(box: Box) -> None:
    box.run("mkdir -p /v/a/b; echo x > /v/a/b/c; ln -s a/b /v/link", Binds=["v1:/v"])
    for subpath, command, expected in (
        ("a/b", "ls /p", "c\n"),
        ("a/b/c", "cat /p", "x\n"),
        ("link", "ls /p", "c\n"),
    ):
        options = {"Subpath": subpath}
        mount = {"Type": "volume", "Source": "v1", "Target": "/p", "VolumeOptions": options}
        assert box.run(command, Mounts=[mount]) == expected
        # A copy sees the same, while the container rests.
        assert b"x\n" in box.get(box.last, "/p").values()


def test_a_missing_subpath_is_named(box: Box) -> None:
    box.volume("v1")
    options = {"Subpath": "no/such"}
    mount = {"Type": "volume", "Source": "v1", "Target": "/p", "VolumeOptions": options}
    answer = box.start(box.made("true", Mounts=[mount]))
    assert answer.status == 400
    where = data(box, "v1") / "no/such"
    assert f"cannot access path {where}: no such file or directory" in answer.json["message"]


def test_an_image_is_mounted_read_only_whole_or_in_part(box: Box) -> None:
    whole = {"Type": "image", "Source": "busybox", "Target": "/image"}
    part = {**whole, "Target": "/part", "ImageOptions": {"Subpath": "bin/busybox"}}
    out = box.run(
        "/image/bin/ls /image/bin | wc -l; /part true; touch /image/x", Mounts=[whole, part]
    )
    assert int(out.split()[0]) > 100
    assert "Read-only file system" in out
    assert box.get(box.last, "/part")
    image = box.daemon.request("DELETE", "/images/busybox")
    assert image.status == 409


def test_local_options_mount_a_file_system_for_as_long_as_it_is_used(box: Box) -> None:
    box.volume("small", type="tmpfs", device="tmpfs", o="size=64k,uid=12")
    command = "stat -c %u /t; echo kept > /t/x; until test -e /t/go; do sleep 0.02; done"
    first = box.started("sh", "-c", command, Binds=["small:/t"])
    eventually(lambda: os.path.ismount(data(box, "small")))
    eventually(lambda: (data(box, "small") / "x").exists())
    fill = "head -c 100000 /dev/zero > /t/y 2> /dev/null || stat -c %s /t/y; rm /t/y"
    assert 0 < int(box.run(fill, Binds=["small:/t"]).split()[-1]) < 64 << 10
    assert box.run("cat /t/x; touch /t/go", Binds=["small:/t"]) == "kept\n"
    assert box.output(first) == "12\n"
    eventually(lambda: not os.path.ismount(data(box, "small")))
    assert box.run("ls /t", Binds=["small:/t"]) == ""


def test_a_bound_folder_can_be_a_volume_of_its_own(box: Box, host: Path) -> None:
    (host / "there").write_text("x")
    box.volume("bound", type="none", device=str(host), o="bind")
    assert box.run("ls /v; touch /v/new", Binds=["bound:/v"]) == "there\n"
    assert (host / "new").exists()
    box.clear()
    assert sorted(os.listdir(host)) == ["new", "there"]


def test_a_mount_that_fails_is_told_and_starts_nothing(box: Box) -> None:
    box.volume("gone", type="none", device="/no/such/folder", o="bind")
    answer = box.start(box.made("true", Binds=["gone:/v"]))
    assert answer.status == 400
    assert answer.json["message"] == (
        f"error while mounting volume '{data(box, 'gone')}': failed to mount local volume: mount"
        f" /no/such/folder:{data(box, 'gone')}, flags: 0x1000: no such file or directory"
    )


# --- volumes of other containers -----------------------------------------------------------------


def test_volumes_from_several_chained_and_stopped_containers(box: Box, host: Path) -> None:
    first, second, third = unique(), unique(), unique()
    box.made("true", name=first, Binds=["v1:/v1", f"{host}:/h"])
    box.made("true", name=second, config={"Volumes": {"/v2": {}}})
    box.run("touch /v1/a /h/b /v2/c", name=third, VolumesFrom=[first, second])
    assert box.run("ls /v1 /h /v2", VolumesFrom=[f"{third}:ro"]).split() == [
        *("/h:", "b", "/v1:", "a", "/v2:", "c")
    ]
    assert box.run("touch /v1/x /h/x /v2/x", VolumesFrom=[f"{third}:ro"]).count("Read-only") == 3
    assert (host / "b").exists()


def test_volumes_from_a_container_that_is_not_there(box: Box) -> None:
    with box.unchanged():
        answer = box.create("true", VolumesFrom=["nobody"])
        assert (answer.status, answer.json["message"]) == (400, "No such container: nobody")


# --- copies and read-only roots ------------------------------------------------------------------


def test_copies_reach_volumes_also_of_a_read_only_root_and_at_rest(box: Box) -> None:
    command = "until test -e /v/go; do sleep 0.02; done"
    container = box.made("sh", "-c", command, Binds=["v1:/v"], ReadonlyRootfs=True)
    assert box.put(container, "/v", "file", b"at rest").status == 200
    assert (data(box, "v1") / "file").read_bytes() == b"at rest"
    refused = box.put(container, "/etc", "file", b"x")
    assert (refused.status, refused.json["message"]) == (
        400,
        "container rootfs is marked read-only",
    )
    box.start(container)
    assert box.get(container, "/v/file") == {"file": b"at rest"}
    assert box.put(container, "/v", "go", b"").status == 200
    assert box.output(container) == ""


def test_a_copy_mounts_what_the_volume_s_options_say_and_lets_go(box: Box, host: Path) -> None:
    box.volume("bound", type="none", device=str(host), o="bind")
    container = box.made("true", Binds=["bound:/v"])
    assert box.put(container, "/v", "file", b"x").status == 200
    assert (host / "file").read_bytes() == b"x"
    eventually(lambda: not os.path.ismount(data(box, "bound")))


# --- a daemon that ends and comes back -----------------------------------------------------------


def test_volumes_and_their_mounts_outlast_the_daemon(box: Box) -> None:
    daemon = box.daemon
    box.volume("plain")
    box.volume("small", type="tmpfs", device="tmpfs")
    command = "echo x > /s/x; until test -e /p/go; do sleep 0.02; done; cat /s/x"
    container = box.started("sh", "-c", command, Binds=["plain:/p", "small:/s"])
    eventually(lambda: (data(box, "small") / "x").exists())
    restored = data(box, "restored")
    restored.mkdir(parents=True)
    daemon.kill()
    daemon.start()
    assert set(box.volumes()) == {"plain", "small", "restored"}
    assert daemon.request("DELETE", "/volumes/small").status == 409
    (data(box, "plain") / "go").write_text("")
    assert box.output(container) == "x\n"
    eventually(lambda: not os.path.ismount(data(box, "small")))


def test_the_folder_of_volumes_is_closed_to_others(box: Box) -> None:
    box.volume("plain")
    reader = ["setpriv", "--reuid", "65534", "--clear-groups", "ls", str(data(box, "plain"))]
    assert subprocess.run(reader, capture_output=True, check=False).returncode


# --- bad input -----------------------------------------------------------------------------------

RELATIVE = (
    'create ../x: "../x" includes invalid characters for a local volume name, only'
    ' "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use'
    " absolute path"
)


@pytest.mark.parametrize(
    ("host_config", "status", "sentence"),
    [
        ({"Binds": ["../x:/x"]}, 400, RELATIVE),
        ({"Binds": ["ok1:/a", "rel/path:/x"]}, 400, 'create rel/path: "rel/path" includes invalid'),
        ({"Binds": ["/a:/b:sideways"]}, 400, "invalid mode: sideways"),
        ({"Binds": ["ok1:/b:ro,rw"]}, 400, "invalid mode: ro,rw"),
        ({"Binds": ["ok1:/x", "ok2:/x"]}, 400, "Duplicate mount point: /x"),
        ({"Binds": ["ok1:/x"], "Tmpfs": {"/x": ""}}, 400, "Duplicate mount point: /x"),
        ({"Binds": ["ok1:x"]}, 400, "invalid volume specification: 'ok1:x'"),
        ({"Binds": ["ok1:/"]}, 400, "destination can't be '/'"),
        ({"Binds": ["ok1:/x:rslave"]}, 400, "field BindOptions must not be specified"),
        ({"Binds": ["a:/x"]}, 400, "volume name is too short"),
        ({"Binds": ["ok1:/x"], "VolumeDriver": "nope"}, 404, 'plugin "nope" not found'),
        (
            {"Mounts": [{"Type": "bind", "Source": "/no/such", "Target": "/x"}]},
            400,
            'invalid mount config for type "bind": bind source path does not exist: /no/such',
        ),
        (
            {"Mounts": [{"Type": "bind", "Source": "rel", "Target": "/x"}]},
            400,
            "invalid mount path: 'rel' mount path must be absolute",
        ),
        (
            {"Mounts": [{"Type": "volume", "Source": "ok1"}]},
            400,
            'invalid mount config for type "volume": field Target must not be empty',
        ),
        (
            {
                "Mounts": [
                    {
                        "Type": "volume",
                        "Source": "ok1",
                        "Target": "/x",
                        "VolumeOptions": {"Subpath": "../y"},
                    }
                ]
            },
            400,
            "subpath must be a relative path within the volume",
        ),
        (
            {
                "Mounts": [
                    {
                        "Type": "volume",
                        "Source": "ok1",
                        "Target": "/x",
                        "VolumeOptions": {"DriverConfig": {"Options": {"colour": "red"}}},
                    }
                ]
            },
            400,
            'create ok1: invalid option: "colour"',
        ),
        (
            {"Mounts": [{"Type": "image", "Source": "no-such-image", "Target": "/x"}]},
            404,
            "No such image: no-such-image",
        ),
        (
            {"Mounts": [{"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [["y"]]}}]},
            400,
            "invalid option: y",
        ),
        ({"VolumesFrom": [""]}, 400, "volumes-from specification cannot be an empty string"),
        ({"Binds": ["ok1:/x"], "NetworkMode": "container:nobody"}, 400, "No such container"),
    ],
)
def test_bad_input_is_refused_in_docker_s_words_and_makes_nothing(
    box: Box, host_config: dict[str, Any], status: int, sentence: str
) -> None:
    with box.unchanged():
        answer = box.create("true", **host_config)
        assert answer.status == status, answer.body
        assert sentence in answer.json["message"]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"Name": "x"}, 400, "volume name is too short"),
        ({"Name": "ok1", "DriverOpts": {"o": "bind"}}, 400, 'missing required option: "device"'),
        ({"Name": "ok1", "DriverOpts": {"size": "1G"}}, 400, "no quota support"),
        ({"Name": "ok1", "Driver": "nope"}, 404, "error looking up volume plugin nope"),
        ({"Name": "ok1", "ClusterVolumeSpec": {"Group": "x"}}, 503, "not a swarm manager"),
        ({"Name": 7}, 400, ""),
    ],
)
def test_a_wrong_volume_is_refused(
    box: Box, body: dict[str, Any], status: int, sentence: str
) -> None:
    with box.unchanged():
        answer = box.daemon.request("POST", "/volumes/create", body)
        assert answer.status == status, answer.body
        assert sentence in answer.json["message"]
