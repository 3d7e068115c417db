"""What every snapshot driver must do."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.errors import Conflict, InvalidArgument, NotFound, Unsupported
from sampan.rpc import Fd
from sampan.storage import choosing
from sampan.storage.drivers.btrfs import BtrfsDriver
from sampan.storage.drivers.driver import SnapshotDriver
from sampan.storage.drivers.fuse_overlayfs import FuseOverlayfsDriver
from sampan.storage.drivers.overlay import OverlayDriver
from sampan.storage.drivers.vfs import VfsDriver
from sampan.storage.linux_mounter import LinuxMounter
from tests import tarballs
from tests.filesystems import Shop, kernel_has
from tests.session import own_mounts
from tests.snapshots import BASE, Snapshots
from tests.tarballs import archive, file, folder, hardlink, pax, symlink

pytestmark = pytest.mark.privileged

# By the driver's name, "-" and a variant; "@" and a kind of file system to lie on.
DRIVERS: dict[str, Callable[[Path], SnapshotDriver]] = {
    "overlay": OverlayDriver,
    "overlay-by-name": lambda root: OverlayDriver(root, "name"),
    "overlay-by-text": lambda root: OverlayDriver(root, "text"),
    "overlay@btrfs": OverlayDriver,
    "overlay@xfs": OverlayDriver,
    "vfs": VfsDriver,
    "vfs@xfs": VfsDriver,
    "btrfs@btrfs": BtrfsDriver,
    "fuse-overlayfs": FuseOverlayfsDriver,
    "fuse-overlayfs@xfs": FuseOverlayfsDriver,
}


@pytest.fixture(params=DRIVERS)
def variant(request: pytest.FixtureRequest) -> str:
    """Which driver is used, and on what."""
    return str(request.param)


@pytest.fixture
def root(variant: str, tmp_path: Path, filesystems: Shop) -> Iterator[Path]:
    """The data root."""
    kind = variant.partition("@")[2]
    if not kind:
        yield tmp_path
        return
    if not kernel_has(kind):
        pytest.skip(f"this kernel has no {kind}")
    with filesystems.folder(kind) as folder:
        yield folder


@pytest.fixture
def snapshots(variant: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapshots]:
    name = variant.partition("@")[0].removesuffix("-by-name").removesuffix("-by-text")
    monkeypatch.setitem(choosing.DRIVERS, name, DRIVERS[variant])
    try:
        snapshots = Snapshots(LinuxMounter(root, name))
    except Unsupported as error:
        pytest.skip(str(error))
    with snapshots:
        yield snapshots


# Below the root, and in /etc.
MOUNT_POINTS = {".dockerenv", "dev", "etc", "proc", "sys"} | {
    "hostname",
    "hosts",
    "mtab",
    "resolv.conf",
}


def names(folder: Path) -> set[str]:
    """Return what is in a folder, without what every container has."""
    return set(os.listdir(folder)) - MOUNT_POINTS


def test_a_snapshot_on_nothing_is_empty_and_writable(snapshots: Snapshots) -> None:
    root = snapshots.container()
    assert names(root) == set()
    assert stat.S_IMODE(root.stat().st_mode) == 0o755
    (root / "new").write_text("x")
    assert snapshots.changes() == [("A", "/new")]


def test_a_container_sees_its_image(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    assert (root / "etc/passwd").read_bytes() == b"root"
    assert stat.S_IMODE((root / "bin/busybox").stat().st_mode) == 0o4755
    assert os.readlink(root / "bin/sh") == "busybox"
    assert snapshots.changes() == []


def test_what_a_container_writes_stays_in_its_snapshot(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    (root / "etc/passwd").write_text("other")
    snapshots.mounter.prepare("second", tarballs.chain(BASE))
    assert (snapshots.mount("second") / "etc/passwd").read_bytes() == b"root"
    assert (snapshots.mount("box") / "etc/passwd").read_bytes() == b"other"


def test_a_higher_layer_stands_above_a_lower_one(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE, archive(folder("etc"), file("etc/passwd", b"new")))
    assert (root / "etc/passwd").read_bytes() == b"new"
    assert (root / "etc/group").read_bytes() == b"root"


def test_a_whiteout_hides_the_file_of_the_lower_layer(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE, archive(folder("etc"), file("etc/.wh.passwd")))
    assert names(root / "etc") == {"group"}


def test_a_whiteout_hides_a_whole_folder(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE, archive(file(".wh.var")))
    assert names(root) == {"bin"}


def test_an_opaque_folder_shows_only_what_its_layer_brings(snapshots: Snapshots) -> None:
    layer = archive(
        folder("var"), folder("var/cache"), file("var/cache/three"), file("var/cache/.wh..wh..opq")
    )
    assert os.listdir(snapshots.container(BASE, layer) / "var/cache") == ["three"]


def test_a_folder_that_is_removed_and_made_again_is_empty(snapshots: Snapshots) -> None:
    layer = archive(folder("var"), file("var/.wh.cache"), folder("var/cache"), file("var/cache/n"))
    assert os.listdir(snapshots.container(BASE, layer) / "var/cache") == ["n"]


@pytest.mark.parametrize("hide", ["var/.wh.cache", "var/cache/.wh..wh..opq", ".wh.var"])
def test_a_whiteout_spares_what_its_own_layer_brought_before(
    snapshots: Snapshots, hide: str
) -> None:
    layer = archive(file("var/cache/new"), file(hide), file("var/cache/newer"))
    root = snapshots.container(BASE, layer)
    assert sorted(os.listdir(root / "var/cache")) == ["new", "newer"]


def test_the_book_keeping_of_aufs_is_left_out(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE, archive(file(".wh..wh.aufs"), file(".wh..wh.orph")))
    assert names(root) == {"bin", "var"}


def test_a_file_becomes_a_folder_and_a_folder_a_file(snapshots: Snapshots) -> None:
    layer = archive(file("var", b"file"), folder("etc"), folder("etc/passwd"), file("etc/passwd/x"))
    root = snapshots.container(BASE, layer)
    assert (root / "var").read_bytes() == b"file"
    assert os.listdir(root / "etc/passwd") == ["x"]


def test_folders_that_a_layer_does_not_list_keep_their_owner_and_mode(
    snapshots: Snapshots,
) -> None:
    base = archive(folder("secret", 0o700), file("secret/a"))
    root = snapshots.container(base, archive(file("secret/b")))
    assert stat.S_IMODE((root / "secret").stat().st_mode) == 0o700
    assert sorted(os.listdir(root / "secret")) == ["a", "b"]


def test_a_hard_link_to_a_lower_layer_is_one(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE, archive(hardlink("etc/shadow", "etc/passwd")))
    assert (root / "etc/shadow").read_bytes() == b"root"


def test_127_layers_are_allowed_and_no_more(snapshots: Snapshots) -> None:
    layers = [archive(file(f"f{n}", b"%d" % n), file("top", b"%d" % n)) for n in range(127)]
    root = snapshots.container(*layers)
    assert len(names(root)) == 128
    assert (root / "top").read_bytes() == b"126"
    with pytest.raises(InvalidArgument, match="max depth exceeded"):
        snapshots.layers(*layers, archive(file("one too many")))


def test_every_container_has_places_for_mounts_which_are_no_changes(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    for name in ("dev/pts", "dev/shm", "proc", "sys"):
        assert stat.S_ISDIR((root / name).lstat().st_mode), name
    for name in (".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"):
        assert (root / name).read_bytes() == b"", name
    assert os.readlink(root / "etc/mtab") == "/proc/mounts"
    assert (root / "etc/passwd").read_bytes() == b"root"
    assert snapshots.changes() == []
    assert snapshots.diff() == bytes(1024)
    (root / "etc/hosts").write_text("127.0.0.1 localhost")
    assert snapshots.changes() == [("C", "/etc"), ("C", "/etc/hosts")]


def test_links_of_an_image_at_the_places_for_mounts_are_replaced_not_followed(
    snapshots: Snapshots, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "hosts").write_text("host's own")
    layer = archive(
        symlink("etc", str(outside)),
        symlink("dev", "/"),
        symlink("proc", "../../.."),
        symlink(".dockerenv", str(outside / "hosts")),
        file("sys", b"a file"),
    )
    root = snapshots.container(layer)
    for name in ("etc", "dev", "proc", "sys"):
        assert stat.S_ISDIR((root / name).lstat().st_mode), name
    assert stat.S_ISREG((root / ".dockerenv").lstat().st_mode)
    assert os.listdir(outside) == ["hosts"]
    assert (outside / "hosts").read_text() == "host's own"
    assert snapshots.changes() == []


def test_folders_of_an_image_at_the_places_for_mounts_stay(snapshots: Snapshots) -> None:
    layer = archive(
        folder("proc", 0o555), file("proc/x", b"x"), folder("etc"), folder("etc/hosts", 0o700)
    )
    root = snapshots.container(layer)
    assert (root / "proc/x").read_bytes() == b"x"
    assert stat.S_IMODE((root / "proc").stat().st_mode) == 0o555
    assert stat.S_IMODE((root / "etc/hosts").stat().st_mode) == 0o700


def test_the_places_for_mounts_are_made_once_for_an_image_and_go_with_it(
    snapshots: Snapshots, root: Path
) -> None:
    box = snapshots.container(BASE)
    shared = next(root.glob("snapshots/*/.init"))
    (made,) = shared.iterdir()
    identity = made.stat().st_ino
    snapshots.mounter.prepare("second", tarballs.chain(BASE))
    assert [made.stat().st_ino for made in shared.iterdir()] == [identity]
    (box / "etc/hosts").write_text("x")
    assert (snapshots.mount("second") / "etc/hosts").read_bytes() == b""
    assert sorted(info.key for info in snapshots.mounter.snapshots()) == sorted(
        ["box", "second", tarballs.chain(BASE)]
    )
    for key in ("box", "second", tarballs.chain(BASE)):
        snapshots.mounter.remove(key)
    assert list(shared.iterdir()) == []


def test_places_for_mounts_without_their_image_go_at_the_start(
    snapshots: Snapshots, root: Path
) -> None:
    snapshots.container(BASE)
    shared = next(root.glob("snapshots/*/.init"))
    (shared / ("sha256-" + "0" * 64)).mkdir()
    (kept,) = [made.name for made in shared.iterdir() if not made.name.endswith("0" * 64)]
    LinuxMounter(root, shared.parent.name).close()
    assert [made.name for made in shared.iterdir()] == [kept]


def test_docker_diff_lists_added_changed_and_deleted_paths(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    (root / "etc/passwd").write_text("changed")
    (root / "etc/group").unlink()
    (root / "srv").mkdir()
    (root / "srv/deep").mkdir()
    (root / "srv/deep/file").touch()
    os.chmod(root / "bin", 0o700)
    assert snapshots.changes() == [
        ("C", "/bin"),
        ("C", "/etc"),
        ("D", "/etc/group"),
        ("C", "/etc/passwd"),
        ("A", "/srv"),
        ("A", "/srv/deep"),
        ("A", "/srv/deep/file"),
    ]


def test_docker_diff_names_what_vanished_from_a_folder_made_again(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    for name in ("one", "two"):
        (root / "var/cache" / name).unlink()
    (root / "var/cache").rmdir()
    assert snapshots.changes() == [("C", "/var"), ("D", "/var/cache")]
    (root / "var/cache").mkdir()
    (root / "var/cache/three").touch()
    assert snapshots.changes() == [
        ("C", "/var"),
        ("C", "/var/cache"),
        ("D", "/var/cache/one"),
        ("A", "/var/cache/three"),
        ("D", "/var/cache/two"),
    ]


def test_a_change_that_was_taken_back_is_none(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    (root / "etc/new").touch()
    (root / "etc/new").unlink()
    assert snapshots.changes() == []


def test_a_renamed_folder_is_whole_under_its_new_name(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    whole = str(root).replace("self", str(os.getpid()))
    subprocess.run(["mv", f"{whole}/var/cache", f"{whole}/var/moved"], check=True)
    assert snapshots.changes() == [
        ("C", "/var"),
        ("D", "/var/cache"),
        ("A", "/var/moved"),
        ("A", "/var/moved/one"),
        ("A", "/var/moved/two"),
    ]


def test_the_diff_of_a_container_is_a_layer_that_makes_the_same_tree(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    (root / "etc/passwd").unlink()
    (root / "etc/issue").write_text("hello")
    os.link(root / "etc/issue", root / "etc/issue.net")
    os.symlink("issue", root / "etc/motd")
    os.mkfifo(root / "etc/fifo")
    os.chown(root / "etc/issue", 1000, 1001)
    os.setxattr(root / "etc/issue", "user.kind", b"text")
    for name in ("one", "two"):
        (root / "var/cache" / name).unlink()
    (root / "var/cache").rmdir()
    (root / "var/cache").mkdir()
    layer = snapshots.diff()
    again = snapshots.mount(snapshots.layers(BASE, layer))
    assert sorted(os.listdir(again / "etc")) == ["fifo", "group", "issue", "issue.net", "motd"]
    status = (again / "etc/issue").stat()
    assert (status.st_uid, status.st_gid, status.st_nlink) == (1000, 1001, 2)
    assert os.getxattr(again / "etc/issue", "user.kind") == b"text"
    assert os.readlink(again / "etc/motd") == "issue"
    assert os.listdir(again / "var/cache") == []


def test_the_diff_is_the_same_every_time_and_empty_for_no_change(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    assert snapshots.diff() == bytes(1024)
    for name in ("z", "a", "m"):
        (root / name).write_text(name)
    first = snapshots.diff()
    assert tarballs.names(first) == ["a", "m", "z"]
    assert snapshots.diff() == first


def test_every_layer_is_written_again_byte_for_byte(snapshots: Snapshots) -> None:
    capability = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
    above = archive(
        hardlink("etc/shadow", "etc/passwd"),
        file("etc/.wh.group"),
        folder("var/cache", 0o1777),
        file("var/cache/.wh..wh..opq"),
        file("new/implied/x", b"x" * 70_000),
        pax({"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.a": b"1"}),
        file("bin/ping", b"ELF", 0o755),
        symlink("bin/link", "ping"),
        hardlink("bin/again", "bin/ping"),
    )
    root = snapshots.container(BASE, above)
    (root / "bin/ping").write_bytes(b"changed in the container")
    (root / "new/implied/x").unlink()
    for layers in ((BASE,), (BASE, above)):
        chain = tarballs.chain(*layers)
        fd = os.memfd_create("layer")
        try:
            snapshots.mounter.pack_layer(chain, Fd(fd))
            assert tarballs.contents(fd) == layers[-1]
        finally:
            os.close(fd)
        assert snapshots.mounter.verify(chain) == []


def test_sockets_do_not_travel(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    (root / "file").touch()
    assert tarballs.names(snapshots.diff()) == ["file"]


def test_file_capabilities_survive_layers(snapshots: Snapshots) -> None:
    value = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)  # cap_net_raw+ep, revision 2
    layer = archive(pax({"SCHILY.xattr.security.capability": value}), file("ping", b"x", 0o755))
    root = snapshots.container(layer)
    assert os.getxattr(root / "ping", "security.capability") == value
    (root / "ping").rename(root / "pong")
    assert os.getxattr(snapshots.mount("box") / "pong", "security.capability") == value


def test_usage_counts_what_the_snapshot_itself_holds(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    before = snapshots.mounter.usage("box").size
    (root / "big").write_bytes(b"x" * 100_000)
    os.link(root / "big", root / "again")
    assert snapshots.mounter.usage("box").size - before == 100_000


def test_a_read_only_mount_and_an_image_cannot_be_written(snapshots: Snapshots) -> None:
    snapshots.container(BASE)
    for root in (snapshots.mount("box", read_only=True), snapshots.mount(tarballs.chain(BASE))):
        assert (root / "etc/passwd").read_bytes() == b"root"
        with pytest.raises(OSError, match="Read-only"):
            (root / "new").touch()


def test_reading_a_snapshot_disturbs_nobody_who_writes_to_it(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    (root / "new").write_bytes(b"1")
    (root / "var/cache/one").unlink()
    seen = snapshots.mount("box", read_only=True)
    assert (seen / "new").read_bytes() == b"1"
    assert not (seen / "var/cache/one").exists()
    (root / "etc/passwd").write_bytes(b"changed")
    (root / "etc/group").rename(root / "etc/gone")
    (root / "folder").mkdir()
    (root / "folder").rmdir()
    assert snapshots.changes() == [
        ("C", "/etc"),
        ("A", "/etc/gone"),
        ("D", "/etc/group"),
        ("C", "/etc/passwd"),
        ("A", "/new"),
        ("C", "/var"),
        ("C", "/var/cache"),
        ("D", "/var/cache/one"),
    ]


def test_a_name_is_taken_once(snapshots: Snapshots) -> None:
    snapshots.mounter.prepare("box", None)
    with pytest.raises(Conflict, match="exists already"):
        snapshots.mounter.prepare("box", None)


def test_a_missing_or_writable_parent_is_refused(snapshots: Snapshots) -> None:
    with pytest.raises(NotFound):
        snapshots.mounter.prepare("box", "sha256:" + "0" * 64)
    snapshots.mounter.prepare("box", None)
    with pytest.raises(InvalidArgument, match="writable"):
        snapshots.mounter.prepare("other", "box")
    assert [info.key for info in snapshots.mounter.snapshots()] == ["box"]


def test_a_snapshot_with_children_cannot_be_removed(snapshots: Snapshots) -> None:
    snapshots.container(BASE)
    with pytest.raises(Conflict, match="children"):
        snapshots.mounter.remove(tarballs.chain(BASE))
    snapshots.mounter.remove("box")
    snapshots.mounter.remove(tarballs.chain(BASE))
    snapshots.mounter.remove("never-there")
    assert snapshots.mounter.snapshots() == []


def test_removing_a_mounted_snapshot_disturbs_nobody(snapshots: Snapshots) -> None:
    root = snapshots.container(BASE)
    with (root / "open").open("w") as still_open:
        snapshots.mounter.remove("box")
        still_open.write("x")
    with pytest.raises(NotFound):
        snapshots.mounter.mount("box")
    snapshots.mounter.prepare("box", tarballs.chain(BASE))
    assert snapshots.changes() == []


def test_mounts_do_not_appear_in_the_hosts_tree(snapshots: Snapshots) -> None:
    before = own_mounts()
    root = snapshots.container(BASE)
    assert (root / "etc").is_dir()
    assert own_mounts() == before


def test_a_tree_deeper_than_any_path_is_removed(snapshots: Snapshots) -> None:
    here = os.open(snapshots.container(), os.O_RDONLY)
    for depth in range(300):
        try:
            os.mkdir("d" * 100, dir_fd=here)
        except OSError as error:  # fuse-overlayfs puts whole paths together
            if error.errno != errno.ENAMETOOLONG or depth < 30:
                raise
            break
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    while snapshots.mounts:
        snapshots.mounts.pop().close()
    snapshots.mounter.remove("box")
    snapshots.mounter.close()
    store = snapshots.mounter._store
    assert not store.has_trash()


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../x", "a/b", ".trash", "sha256:x", "x" * 200, "a\0"]
)
def test_a_key_that_is_no_name_is_refused(snapshots: Snapshots, key: str) -> None:
    with pytest.raises(InvalidArgument):
        snapshots.mounter.prepare(key, None)
    with pytest.raises(InvalidArgument):
        snapshots.mounter.remove(key)
