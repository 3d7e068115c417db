"""Hostile containers, images and clients against volumes and mounts: each CVE as one test.

The table is that of THREAT_MODEL.md. What must not happen is always the same: that something of the
host is shown, changed or made. `host` is a folder which no container was given.
"""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests import busybox
from tests.daemon import Daemon
from tests.session import unique
from tests.volume_box import Box

pytestmark = pytest.mark.privileged

SECRET = "only for the host\n"
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
STARTS = 6  # attempts of a race; what is tested is decided by the kernel, not by luck


@pytest.fixture
def box(daemon: Daemon) -> Iterator[Box]:
    found = Box(daemon)
    yield found
    found.clear()


@pytest.fixture
def host(tmp_path: Path) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "secret").write_text(SECRET)
    return folder


def data(box: Box, name: str) -> Path:
    return box.daemon.data_root / "volumes" / name / "_data"


def image(box: Box, volumes: list[str], *entries: tarfile.TarInfo) -> str:
    """Import an image: busybox with more entries, and volumes in its configuration."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(busybox.archive())) as old:
        with tarfile.open(fileobj=buffer, mode="w") as new:
            for member in old:
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
            for entry in entries:
                new.addfile(entry)
    changes = "".join(f"&changes={quote(f'VOLUME {path}')}" for path in volumes)
    name = f"hostile-{unique()}"
    answer = box.daemon.request(
        "POST",
        f"/images/create?fromSrc=-&repo={name}{changes}",
        buffer.getvalue(),
        {"Content-Type": "application/x-tar"},
    )
    assert answer.status == 200, answer.body
    assert b"errorDetail" not in answer.body, answer.body
    return name


def link(name: str, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


@contextmanager
def swapping(place: Path, target: str) -> Iterator[None]:
    """Exchange the folder `place` with a link to `target`, again and again."""
    over = threading.Event()
    other = place.with_name(f"{place.name}.link")
    other.symlink_to(target)
    libc = ctypes.CDLL(None, use_errno=True)

    def swap() -> None:
        names = os.fsencode(place), os.fsencode(other)
        while not over.is_set():
            assert libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


# --- what is mounted where -----------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/proc", "/proc/self/attr", "/proc/sys/kernel", "/sys/../proc"])
def test_cve_2019_16884_no_volume_covers_proc(box: Box, target: str) -> None:
    command = "cat /proc/self/attr/exec /proc/1/comm; echo $?"
    answer = box.create("sh", "-c", command, Binds=[f"v1:{target}"])
    assert answer.status == 201
    started = box.start(answer.json["Id"])
    assert started.status == 400
    assert "/proc" in started.json["message"]


def test_cve_2019_19921_a_link_in_the_image_does_not_move_proc_into_a_volume(box: Box) -> None:
    """CVE-2023-27561 and CVE-2023-28642 are the same way in."""
    name = image(box, [], link("x", "proc"))
    answer = box.create("true", config={"Image": name}, Binds=["v1:/x/self/attr"])
    started = box.start(answer.json["Id"])
    assert started.status == 400
    assert "/proc" in started.json["message"]


def test_cve_2021_30465_a_mount_point_in_a_volume_is_exchanged_while_it_is_mounted_on(
    box: Box, host: Path
) -> None:
    """A folder of a shared volume becomes a link to the host's root while others mount on it."""
    box.volume("shared")
    box.volume("inner")
    (data(box, "shared") / "place").mkdir()
    (data(box, "inner") / "mark").write_text("")
    binds = ["shared:/v", "inner:/v/place/deep"]
    with swapping(data(box, "shared") / "place", str(host)):
        for _ in range(STARTS):
            container = box.made("true", Binds=binds)
            if box.start(container).status == 204:
                box.output(container)
            box.remove(container)
    assert sorted(os.listdir(host)) == ["secret"]


def test_cve_2024_45310_no_folder_is_made_on_the_host_for_a_mount_point(
    box: Box, host: Path
) -> None:
    box.volume("shared")
    (data(box, "shared") / "out").symlink_to(f"{host}/made")
    (data(box, "shared") / "up").symlink_to("../../../../../../../../../../.." + str(host))
    for target in ("/v/out/deep", "/v/up/deep", "/v/out", "/v/up/file"):
        container = box.made("true", Binds=["shared:/v", f"inner:{target}", "/etc/hostname:/h"])
        box.start(container)
    assert sorted(os.listdir(host)) == ["secret"]


def test_cve_2024_23652_what_was_made_for_a_mount_is_not_cleaned_up_on_the_host(
    box: Box, host: Path
) -> None:
    (host / "empty").write_text("")
    (host / "folder").mkdir()
    binds = [f"{host}/empty:/new/file", f"{host}/folder:/new/folder", "v1:/new/volume"]
    box.run("rm -rf /new 2>/dev/null; true", Binds=binds)
    box.remove(box.last, "?v=1&force=1")
    assert sorted(os.listdir(host)) == ["empty", "folder", "secret"]


# --- parts of volumes ----------------------------------------------------------------------------


def part(subpath: str, name: str = "shared") -> dict[str, Any]:
    options = {"Subpath": subpath}
    return {"Type": "volume", "Source": name, "Target": "/part", "VolumeOptions": options}


def test_cve_2024_23651_a_subpath_is_exchanged_while_it_is_mounted(box: Box, host: Path) -> None:
    """The folder is a link to the host at one moment, and a folder of the volume at the next."""
    box.volume("shared")
    (data(box, "shared") / "place/deep").mkdir(parents=True)
    (host / "deep").mkdir()
    (host / "deep/secret").write_text(SECRET)
    with swapping(data(box, "shared") / "place", str(host)):
        for subpath in ("place", "place/deep") * STARTS:
            container = box.made(
                "sh", "-c", "cat /part/secret; touch /part/mine", Mounts=[part(subpath)]
            )
            if box.start(container).status == 204:
                assert SECRET not in box.output(container)
            box.remove(container)
    assert not (host / "mine").exists()
    assert not (host / "deep/mine").exists()


@pytest.mark.parametrize(
    "target", ["{host}", "../../../../../../../../../..{host}", "/proc/1/root"]
)
def test_cve_2021_25741_a_subpath_that_is_a_link_to_the_host_is_refused(
    box: Box, host: Path, target: str
) -> None:
    """The subpath of a volume of Kubernetes; also for copies, and for single files."""
    box.volume("shared")
    (data(box, "shared") / "link").symlink_to(target.format(host=host))
    for subpath in ("link", "link/secret"):
        container = box.made("sh", "-c", "cat /part /part/secret", Mounts=[part(subpath)])
        started = box.start(container)
        assert started.status == 400
        assert "escapes the base directory" in started.json["message"]
        copied = box.daemon.request("GET", f"/containers/{container}/archive?path=/part")
        assert copied.status == 400
        assert SECRET.encode() not in copied.body


def test_cve_2017_1002101_a_part_of_an_image_cannot_lead_out_of_it(box: Box, host: Path) -> None:
    name = image(box, [], link("out", str(host)), link("up", "../../../../../.." + str(host)))
    for subpath in ("out", "up/secret"):
        options = {"Subpath": subpath}
        mount = {"Type": "image", "Source": name, "Target": "/part", "ImageOptions": options}
        started = box.start(box.made("cat", "/part", Mounts=[mount]))
        assert started.status == 400
        assert SECRET not in started.json["message"]


# --- what images say of volumes ------------------------------------------------------------------


def test_cve_2022_23648_a_volume_of_an_image_shows_nothing_of_the_host(
    box: Box, host: Path
) -> None:
    """The path comes from the image's configuration, and the image has a link at its place."""
    name = image(
        box,
        ["/link", f"/../../../../../../../../../..{host}", "/loop"],
        link("link", str(host)),
        link("loop", "loop"),
    )
    answer = box.create("sh", "-c", f"cat /link/secret {host}/secret", config={"Image": name})
    if answer.status == 201:
        mounts = box.mounts(answer.json["Id"])
        for mount in mounts.values():
            assert Path(mount["Source"]).is_relative_to(box.daemon.data_root / "volumes")
            assert os.listdir(mount["Source"]) == []
        if box.start(answer.json["Id"]).status == 204:
            assert SECRET not in box.output(answer.json["Id"])
    assert (host / "secret").read_text() == SECRET


def test_cve_2025_9566_links_in_a_volume_do_not_lead_a_copy_up_to_the_host(
    box: Box, host: Path
) -> None:
    """A container has put links where the image has files; then the volume is filled again."""
    box.volume("v1")
    folder = data(box, "v1").parent
    (folder / ".filling").symlink_to(host)
    box.run("true", Binds=["v1:/bin"])
    assert sorted(os.listdir(host)) == ["secret"]
    assert (data(box, "v1") / "busybox").exists()
    data(box, "v1").rename(folder / "kept")
    data(box, "v1").symlink_to(host)
    box.create("true", Binds=["v1:/etc"])
    assert sorted(os.listdir(host)) == ["secret"]


def test_cve_2026_53488_labels_of_an_image_decide_nothing_about_volumes(box: Box) -> None:
    """A label that makes a volume anonymous counts on volumes only."""
    box.volume("named")
    labels = {"com.docker.volume.anonymous": ""}
    container = box.made("true", config={"Labels": labels}, Binds=["named:/v"])
    box.remove(container, "?v=1")
    assert box.volumes() == ["named"]


# --- copies --------------------------------------------------------------------------------------


def test_cve_2018_15664_a_volume_is_exchanged_while_files_are_copied(box: Box, host: Path) -> None:
    box.volume("shared")
    (data(box, "shared") / "place").mkdir()
    (data(box, "shared") / "place/secret").write_text("of the container\n")
    container = box.made("true", Binds=["shared:/v"])
    with swapping(data(box, "shared") / "place", str(host)):
        for _ in range(STARTS):
            path = f"/containers/{container}/archive?path=/v/place/secret"
            assert SECRET.encode() not in box.daemon.request("GET", path).body
            box.put(container, "/v/place", "mine", b"x")
    assert sorted(os.listdir(host)) == ["secret"]


def test_cve_2026_41568_a_copy_makes_no_mount_points_on_the_host(box: Box, host: Path) -> None:
    """CVE-2026-42306: nor does it bind there. A container at rest is mounted for copies."""
    box.volume("shared")
    (data(box, "shared") / "out").symlink_to(str(host))
    container = box.made("true", Binds=["shared:/v", "inner:/v/out/deep", f"{host}:/own:ro"])
    box.put(container, "/v", "file", b"x")
    box.daemon.request("GET", f"/containers/{container}/archive?path=/v/out/deep")
    assert sorted(os.listdir(host)) == ["secret"]
    # What a link inside leads to is the container's own folder of that name.
    answer = box.daemon.request("GET", f"/containers/{container}/archive?path=/v/out/secret")
    assert answer.status >= 400


# --- names and folders ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["..", "../other", "a/../../b", "/etc", "x/y", ".trash", "a\0b", "x" * 300, "v1/_data"]
)
def test_cve_2024_9675_a_name_is_no_path(box: Box, name: str) -> None:
    before = sorted(os.listdir(box.daemon.data_root))
    for call in ("POST", "GET", "DELETE"):
        if call == "POST":
            answer = box.daemon.request("POST", "/volumes/create", {"Name": name})
        else:
            answer = box.daemon.request(call, f"/volumes/{quote(name, safe='')}")
        assert answer.status in (301, 400, 404), answer.body
    mount = {"Type": "volume", "Source": name, "Target": "/v"}
    with box.unchanged():
        assert box.create("true", Mounts=[mount]).status == 400
    assert sorted(os.listdir(box.daemon.data_root)) == before


def test_cve_2021_41091_nobody_but_root_reaches_the_data_of_volumes(box: Box) -> None:
    """A program with the set-user-id bit in a volume is one of the host's, for whoever finds it."""
    box.run("cp /bin/busybox /v/su; chmod 4755 /v/su", Binds=["v1:/v"])
    program = data(box, "v1") / "su"
    assert program.stat().st_mode & 0o4000
    for command in (["ls", str(program.parent)], ["sh", "-c", str(program)]):
        reader = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *command]
        result = subprocess.run(reader, capture_output=True, check=False)
        assert b"ermission denied" in result.stderr


def test_cve_2024_1753_a_source_that_is_a_link_is_what_the_client_asked_for_and_no_more(
    box: Box, host: Path
) -> None:
    """A bind follows links of the host as mount(8) does; a volume's own folder is never one."""
    box.volume("v1")
    data(box, "v1").rmdir()
    data(box, "v1").symlink_to(host)
    (used,) = box.daemon.request("GET", "/system/df?type=volume").json["Volumes"]
    assert used["UsageData"]["Size"] == -1
    box.daemon.request("DELETE", "/volumes/v1")
    assert (host / "secret").read_text() == SECRET
