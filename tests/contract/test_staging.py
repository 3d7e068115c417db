"""What staged layers promise, whatever the driver: complete, durable, and on the right parent."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import Conflict, InvalidArgument, NotFound, Unsupported
from sampan.rpc import Fd
from sampan.storage.linux_mounter import LinuxMounter
from sampan.storage.mounter import ExtractOptions
from tests import tarballs
from tests.layers import add
from tests.tarballs import archive, file, folder, hardlink, symlink

pytestmark = pytest.mark.privileged

BASE = archive(
    folder("etc", 0o750),
    file("etc/passwd", b"root"),
    file("etc/group", b"wheel"),
    folder("usr"),
    folder("usr/lib"),
    file("usr/lib/x", b"library", 0o4755),
    symlink("lib", "usr/lib"),
    symlink("etc/motd", "passwd"),
)


@pytest.fixture(params=["overlay", "vfs"])
def mounter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LinuxMounter]:
    mounter = LinuxMounter(tmp_path, request.param)
    yield mounter
    mounter.close()


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[LinuxMounter]:
    mounter = LinuxMounter(tmp_path)
    yield mounter
    mounter.close()


def stage(mounter: LinuxMounter, content: bytes, key: str, parent: str | None = None) -> str:
    """Unpack an archive; return its diff id."""
    fd = tarballs.memory_file(content)
    try:
        return mounter.unpack(Fd(fd), key, parent).diff_id
    finally:
        os.close(fd)


class Seen:
    """A mount of a snapshot, while it is open."""

    def __init__(self, mounter: LinuxMounter, key: str) -> None:
        self._fd = mounter.mount(key, True)

    def __enter__(self) -> Path:
        return Path(f"/proc/self/fd/{self._fd.number}")

    def __exit__(self, *_: object) -> None:
        self._fd.close()


def kinds(mounter: LinuxMounter) -> dict[str, str]:
    return {info.key: info.kind for info in mounter.snapshots()}


def test_a_staged_layer_is_listed_with_what_is_known_and_cannot_be_used(
    mounter: LinuxMounter,
) -> None:
    stage(mounter, BASE, "staged-base")
    (info,) = mounter.snapshots()
    assert (info.key, info.kind, info.parent) == ("staged-base", "staged", None)
    assert (info.diff_id, info.plain_size) == (tarballs.digest(BASE), len(BASE))
    assert (info.size, info.entries) == (4 + 5 + 7 + 7 + 6, 8)
    for use in (mounter.mount, mounter.usage, mounter.changes, mounter.graph):
        with pytest.raises(InvalidArgument, match="not committed"):
            use("staged-base")  # type: ignore[operator]
    with pytest.raises(InvalidArgument, match="not committed"):
        mounter.prepare("box", "staged-base")
    mounter.remove("staged-base")
    assert mounter.snapshots() == []


def test_a_staged_layer_outlasts_a_restart(mounter: LinuxMounter, tmp_path: Path) -> None:
    stage(mounter, BASE, "staged-base")
    again = LinuxMounter(tmp_path, mounter._driver.name)
    assert kinds(again) == {"staged-base": "staged"}
    again.commit("staged-base", tarballs.chain(BASE), None)
    again.close()
    third = LinuxMounter(tmp_path, mounter._driver.name)
    assert kinds(third) == {tarballs.chain(BASE): "committed"}
    third.close()


def test_layers_of_an_overlay_come_in_any_order(overlay: LinuxMounter) -> None:
    assert overlay.layers_stand_alone()
    upper = archive(folder("etc"), file("etc/passwd", b"new"), file("etc/.wh.group"))
    stage(overlay, upper, "staged-upper")
    stage(overlay, BASE, "staged-base")
    with pytest.raises(NotFound):
        overlay.commit("staged-upper", tarballs.chain(BASE, upper), tarballs.chain(BASE))
    overlay.commit("staged-base", tarballs.chain(BASE), None)
    overlay.commit("staged-upper", tarballs.chain(BASE, upper), tarballs.chain(BASE))
    with Seen(overlay, tarballs.chain(BASE, upper)) as root:
        assert sorted(os.listdir(root / "etc")) == ["motd", "passwd"]
        assert (root / "etc/passwd").read_bytes() == b"new"


def test_copies_need_the_parent_when_they_are_unpacked(tmp_path: Path) -> None:
    mounter = LinuxMounter(tmp_path, "vfs")
    assert not mounter.layers_stand_alone()
    upper = archive(file("etc/new"))
    add(mounter, BASE, tarballs.chain(BASE))
    stage(mounter, upper, "staged-upper")
    with pytest.raises(Conflict, match="another parent"):
        mounter.commit("staged-upper", tarballs.chain(BASE, upper), tarballs.chain(BASE))
    mounter.close()


def test_the_parent_of_a_staged_copy_stays(tmp_path: Path) -> None:
    mounter = LinuxMounter(tmp_path, "vfs")
    add(mounter, BASE, tarballs.chain(BASE))
    stage(mounter, archive(file("etc/new")), "staged-upper", tarballs.chain(BASE))
    with pytest.raises(Conflict, match="children"):
        mounter.remove(tarballs.chain(BASE))
    mounter.close()


def test_whiteouts_of_a_lowest_layer_hide_nothing(mounter: LinuxMounter) -> None:
    content = archive(
        folder("a"), file("a/.wh.x"), file(".wh.y"), file("y"), file("a/.wh..wh..opq")
    )
    add(mounter, content, tarballs.chain(content))
    mounter.prepare("box", tarballs.chain(content))
    for key in (tarballs.chain(content), "box"):
        with Seen(mounter, key) as root:
            assert os.listdir(root / "a") == []
            assert stat.S_ISREG((root / "y").lstat().st_mode)


def test_directories_that_are_not_listed_take_their_attributes_from_the_parent(
    mounter: LinuxMounter,
) -> None:
    add(mounter, BASE, tarballs.chain(BASE))
    upper = archive(file("etc/a"), file("usr/new/b"), file("usr/lib/c"), folder("usr/lib", 0o700))
    add(mounter, upper, tarballs.chain(BASE, upper), tarballs.chain(BASE))
    with Seen(mounter, tarballs.chain(BASE, upper)) as root:
        modes = [
            stat.S_IMODE((root / name).stat().st_mode) for name in ("etc", "usr/new", "usr/lib")
        ]
        assert modes == [0o750, 0o755, 0o700]


@pytest.mark.parametrize("target", ["usr/lib/x", "lib/x"])
def test_hard_links_to_a_lower_layer_are_one_file(mounter: LinuxMounter, target: str) -> None:
    add(mounter, BASE, tarballs.chain(BASE))
    upper = archive(hardlink("one", target), hardlink("two", target), hardlink("three", "one"))
    add(mounter, upper, tarballs.chain(BASE, upper), tarballs.chain(BASE))
    with Seen(mounter, tarballs.chain(BASE, upper)) as root:
        statuses = [(root / name).stat() for name in ("one", "two", "three", "usr/lib/x", "lib/x")]
        assert {status.st_ino for status in statuses} == {statuses[0].st_ino}
        assert (statuses[0].st_nlink, stat.S_IMODE(statuses[0].st_mode)) == (4, 0o4755)
        assert (root / "three").read_bytes() == b"library"
        assert os.readlink(root / "lib") == "usr/lib"


def test_a_hard_link_means_the_file_that_was_there_before(mounter: LinuxMounter) -> None:
    add(mounter, BASE, tarballs.chain(BASE))
    upper = archive(
        folder("etc"),
        hardlink("etc/passwd.old", "etc/passwd"),
        file("etc/passwd", b"new"),
        hardlink("etc/group.old", "etc/group"),
        file("etc/.wh.group"),
        hardlink("etc/motd.old", "etc/motd"),
        hardlink("etc/gone", "etc/motd"),
        file("etc/gone", b"replaced"),
    )
    add(mounter, upper, tarballs.chain(BASE, upper), tarballs.chain(BASE))
    with Seen(mounter, tarballs.chain(BASE, upper)) as root:
        assert (root / "etc/passwd.old").read_bytes() == b"root"
        assert (root / "etc/passwd").read_bytes() == b"new"
        assert (root / "etc/group.old").read_bytes() == b"wheel"
        assert not (root / "etc/group").exists()
        assert os.readlink(root / "etc/motd.old") == "passwd"
        assert (root / "etc/gone").read_bytes() == b"replaced"


@pytest.mark.parametrize("target", ["nowhere", "etc", "no/where", "usr/lib/x/y"])
def test_a_hard_link_to_what_no_parent_has_is_refused(mounter: LinuxMounter, target: str) -> None:
    add(mounter, BASE, tarballs.chain(BASE))
    upper = archive(hardlink("link", target))
    with pytest.raises(InvalidArgument):
        add(mounter, upper, tarballs.chain(BASE, upper), tarballs.chain(BASE))
    with pytest.raises(InvalidArgument):
        add(mounter, upper, tarballs.chain(upper))
    assert kinds(mounter) == {tarballs.chain(BASE): "committed"}


def test_a_layer_that_was_begun_on_one_parent_fits_no_other(overlay: LinuxMounter) -> None:
    add(overlay, BASE, tarballs.chain(BASE))
    upper = archive(hardlink("link", "etc/nothing"))
    stage(overlay, upper, "staged-upper")
    with pytest.raises(InvalidArgument, match="no such file"):
        overlay.commit("staged-upper", tarballs.chain(BASE, upper), tarballs.chain(BASE))
    with pytest.raises(Conflict, match="another parent"):
        overlay.commit("staged-upper", tarballs.chain(upper), None)


def test_committing_what_is_there_drops_the_staged_layer(mounter: LinuxMounter) -> None:
    stage(mounter, BASE, "staged-one")
    stage(mounter, BASE, "staged-two")
    for key in ("staged-one", "staged-two", "staged-two"):
        mounter.commit(key, tarballs.chain(BASE), None)
    assert kinds(mounter) == {tarballs.chain(BASE): "committed"}


def test_only_staged_layers_are_committed(mounter: LinuxMounter) -> None:
    mounter.prepare("box", None)
    with pytest.raises(InvalidArgument, match="not staged"):
        mounter.commit("box", tarballs.chain(BASE), None)
    add(mounter, BASE, tarballs.chain(BASE))
    with pytest.raises(InvalidArgument, match="not staged"):
        mounter.commit("box", tarballs.chain(BASE), None)
    assert kinds(mounter) == {"box": "active", tarballs.chain(BASE): "committed"}


def test_nothing_but_a_layer_lies_where_a_layer_would_be(mounter: LinuxMounter) -> None:
    taken = tarballs.chain(BASE).replace(":", "-")  # as its folder is called
    with pytest.raises(InvalidArgument, match="invalid snapshot key"):
        stage(mounter, archive(file("other")), taken)
    with pytest.raises(InvalidArgument, match="invalid snapshot key"):
        mounter.prepare(taken, None)
    assert kinds(mounter) == {}


def test_every_byte_of_the_folder_is_accounted_for(mounter: LinuxMounter, tmp_path: Path) -> None:
    layer = archive(file("big", b"x" * 1_000_000))
    add(mounter, layer, tarballs.chain(layer))
    stage(mounter, BASE, "staged-base")
    mounter.prepare("box", tarballs.chain(layer))
    root = tmp_path / "snapshots" / mounter._driver.name
    (root / "stranger").write_bytes(b"x" * 100_000)
    report = mounter.disk_usage()
    assert report.snapshots.keys() == {tarballs.chain(layer), "staged-base", "box"}
    assert report.snapshots[tarballs.chain(layer)] >= 1_000_000
    assert report.others["stranger"] >= 100_000
    assert {".init", ".new", ".trash"} <= report.others.keys()
    whole = sum(path.lstat().st_blocks * 512 for path in (tmp_path / "snapshots").rglob("*"))
    assert sum(report.snapshots.values()) + sum(report.others.values()) == whole


# --- layers of what was written ------------------------------------------------------------


def written(mounter: LinuxMounter, content: bytes) -> None:
    """Have a base layer, and a snapshot on it with some changes."""
    base = stage(mounter, BASE, "staged-base")
    mounter.commit("staged-base", base, None)
    mounter.prepare("box", base)
    fd = tarballs.memory_file(content)
    try:
        mounter.extract("box", "/", Fd(fd), ExtractOptions())
    finally:
        os.close(fd)
    mount = mounter.mount("box")
    root = Path(f"/proc/self/fd/{mount.number}")
    (root / "etc/group").unlink()
    (root / "usr/lib/x").chmod(0o700)
    (root / "etc/passwd").write_bytes(b"changed")
    shutil.rmtree(root / "usr")
    (root / "usr").mkdir()
    mount.close()


CHANGES = archive(file("new/file", b"n" * 70_000), file("new/empty"), symlink("new/link", "file"),
                  hardlink("new/hard", "new/file"))  # fmt: skip


def packed(mounter: LinuxMounter, chain: str) -> bytes:
    fd = os.memfd_create("packed")
    try:
        mounter.pack_layer(chain, Fd(fd))
        return tarballs.contents(fd)
    finally:
        os.close(fd)


def diffed(mounter: LinuxMounter, key: str) -> bytes:
    fd = os.memfd_create("diff")
    try:
        mounter.diff(key, Fd(fd))
        return tarballs.contents(fd)
    finally:
        os.close(fd)


def test_what_was_written_becomes_a_layer_without_a_copy(overlay: LinuxMounter) -> None:
    written(overlay, CHANGES)
    diff = diffed(overlay, "box")
    inode = (Path(overlay.graph("box")["UpperDir"]) / "new/file").stat().st_ino
    found = overlay.capture("box", "staged-box")
    assert (found.diff_id, found.plain_size) == (tarballs.digest(diff), len(diff))
    base = tarballs.digest(BASE)
    chain = tarballs.digest(f"{base} {found.diff_id}".encode())
    overlay.commit("staged-box", chain, base)
    overlay.remove("box")
    assert packed(overlay, chain) == diff
    assert overlay.verify(chain) == []
    assert kinds(overlay) == {base: "committed", chain: "committed"}
    with Seen(overlay, chain) as root:
        assert (root / "new/file").stat().st_ino == inode
        assert (root / "new/hard").stat().st_ino == inode
        assert (root / "etc/passwd").read_bytes() == b"changed"
        assert not (root / "etc/group").exists()
        assert os.listdir(root / "usr") == []


def test_the_same_layer_comes_of_a_copy_and_of_none(overlay: LinuxMounter) -> None:
    written(overlay, CHANGES)
    copied = stage(overlay, diffed(overlay, "box"), "staged-copy")
    assert overlay.capture("box", "staged-box").diff_id == copied


def test_a_layer_that_was_captured_fits_its_own_parent_only(overlay: LinuxMounter) -> None:
    written(overlay, CHANGES)
    found = overlay.capture("box", "staged-box")
    with pytest.raises(Conflict):
        overlay.commit("staged-box", found.diff_id, None)


def test_nothing_written_is_no_layer(overlay: LinuxMounter) -> None:
    base = stage(overlay, BASE, "staged-base")
    overlay.commit("staged-base", base, None)
    overlay.prepare("box", base)
    assert overlay.capture("box", "staged-box").diff_id == tarballs.digest(bytes(1024))
    assert kinds(overlay) == {base: "committed", "box": "active"}
    assert overlay.changes("box") == []


def test_what_an_archive_cannot_say_has_to_be_copied(overlay: LinuxMounter) -> None:
    written(overlay, CHANGES)
    mount = overlay.mount("box")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"/proc/self/fd/{mount.number}/new/socket")
    mount.close()
    with pytest.raises(Unsupported):
        overlay.capture("box", "staged-box")
    assert (Path(overlay.graph("box")["UpperDir"]) / "new/file").exists()


def test_drivers_that_copy_and_snapshots_on_nothing_are_left_to_copies(tmp_path: Path) -> None:
    for driver in ("vfs", "overlay"):
        mounter = LinuxMounter(tmp_path / driver, driver)
        mounter.prepare("box", None)
        with pytest.raises(Unsupported):
            mounter.capture("box", "staged-box")
        mounter.close()


@pytest.mark.parametrize("name", ["sha256:" + "0" * 64, "../x", ".trash"])
def test_names_of_captured_layers_are_checked(overlay: LinuxMounter, name: str) -> None:
    written(overlay, CHANGES)
    with pytest.raises(InvalidArgument):
        overlay.capture("box", name)
    with pytest.raises(InvalidArgument):
        overlay.capture(tarballs.digest(BASE), "staged-x")
    assert (Path(overlay.graph("box")["UpperDir"]) / "new/file").exists()
