"""Archives that attack: nothing outside the tree is touched, and what is refused leaves nothing.

Every attack is applied as a layer by both drivers, and as `docker cp` into a container.
"""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument, NoSpace
from sampan.linux.libc import NR, syscall
from sampan.linux.mounts import mount, umount2
from sampan.rpc import Fd
from sampan.storage.linux_mounter import LinuxMounter
from sampan.storage.mounter import ExtractOptions
from tests import tarballs
from tests.layers import add
from tests.tarballs import archive, file, folder, hardlink, pax, raw, symlink

pytestmark = pytest.mark.privileged

CANARY = b"untouched"


@dataclass(frozen=True)
class Target:
    """Where an attack would like to write: real paths of the host."""

    folder: Path

    @property
    def file(self) -> str:
        """A file that exists."""
        return str(self.folder / "canary")

    @property
    def new(self) -> str:
        """A file that does not."""
        return str(self.folder / "intruder")

    @property
    def climbing(self) -> str:
        """The same file, by many steps up."""
        return "../" * 30 + self.new.lstrip("/")


Attack = Callable[[Target], bytes]

# name → (members, refused): refused attacks raise, the others do no harm inside the tree.
ATTACKS: dict[str, tuple[Attack, bool]] = {
    "dotdot": (lambda t: file(t.climbing), True),
    "dotdot in the middle": (lambda t: file("a/" + t.climbing), True),
    "absolute name": (lambda t: file(t.new), False),
    "absolute dotdot": (lambda t: file("/" + t.climbing), True),
    "name by pax": (lambda t: pax({"path": t.climbing.encode()}) + file("x"), True),
    "name by gnu": (lambda t: raw(b"L", b"L", t.climbing.encode()) + file("x"), True),
    "folder outside": (lambda t: folder(t.climbing), True),
    "symlink parent, absolute": (
        lambda t: symlink("door", str(t.folder)) + file("door/intruder"),
        False,
    ),
    "symlink parent, relative": (
        lambda t: symlink("door", "../" * 30 + str(t.folder).lstrip("/")) + file("door/intruder"),
        False,
    ),
    "symlink to the root": (lambda t: symlink("door", "/") + file("door" + t.new), False),
    "symlink of a symlink": (
        lambda t: symlink("a", "b") + symlink("b", str(t.folder)) + file("a/intruder"),
        False,
    ),
    "folder over a symlink": (
        lambda t: symlink("door", str(t.folder)) + folder("door", 0o777) + file("door/intruder"),
        False,
    ),
    "file through a symlink": (
        lambda t: symlink("door", t.file) + file("door", b"overwritten"),
        False,
    ),
    "chmod through a symlink": (
        lambda t: symlink("door", t.file) + raw(b"door", b"6", mode=b"0006777"),
        False,
    ),
    "symlink loop": (lambda t: symlink("a", "b") + symlink("b", "a") + file("a/x"), True),
    "file as a parent": (lambda t: file("a") + file("a/b"), True),
    "hard link outside": (lambda t: hardlink("door", t.climbing) + file("door", b"x"), True),
    "hard link to a host path": (lambda t: hardlink("door", t.file), True),
    "hard link through a symlink": (
        lambda t: symlink("door", str(t.folder)) + hardlink("x", "door/canary"),
        True,
    ),
    "hard link to a symlink": (
        lambda t: symlink("a", t.file) + hardlink("b", "a") + file("b", b"overwritten"),
        False,
    ),
    "hard link to itself": (lambda t: hardlink("a", "a"), True),
    "hard link to the root": (lambda t: hardlink("a", "/"), True),
    "hard link to a folder": (lambda t: folder("a") + hardlink("b", "a"), True),
    "name with a component too long": (lambda t: pax({"path": b"x" * 300}) + file("x"), True),
    "tree too deep": (lambda t: pax({"path": b"d/" * 900 + b"f"}) + file("x"), True),
    "unknown kind": (lambda t: raw(b"x", b"V"), True),
    "device number out of range": (
        lambda t: raw(b"d", b"3", device=(0o7777777, 0o7777777)),
        True,
    ),
    "truncated": (lambda t: raw(b"x", b"0", size=b"00000010000") + b"half", True),
    "overlay attributes": (
        lambda t: (
            pax({"SCHILY.xattr.trusted.overlay.redirect": t.file.encode()})
            + folder("d")
            + pax({"SCHILY.xattr.trusted.overlay.metacopy": b""})
            + file("f")
        ),
        False,
    ),
    "security attributes": (
        lambda t: (
            pax({"SCHILY.xattr.security.selinux": b"x", "SCHILY.xattr.security.ima": b"\x04"})
            + file("f")
        ),
        False,
    ),
    "broken capability": (
        lambda t: pax({"SCHILY.xattr.security.capability": b"broken"}) + file("f"),
        True,
    ),
    "proc magic link": (
        lambda t: symlink("door", "/proc/self/root") + file("door" + t.new),
        False,
    ),
}

WHITEOUTS: dict[str, tuple[Attack, bool]] = {
    "whiteout of the parent": (lambda t: file(".wh..."), True),
    "whiteout of itself": (lambda t: file("a/.wh.."), True),
    "whiteout of nothing": (lambda t: file(".wh."), True),
    "whiteout through a symlink": (
        lambda t: symlink("door", str(t.folder)) + file("door/.wh.canary"),
        False,
    ),
    "opaque through a symlink": (
        lambda t: symlink("door", str(t.folder)) + file("door/.wh..wh..opq"),
        False,
    ),
    "whiteout outside": (lambda t: file("../" * 30 + f"{t.folder}/.wh.canary".lstrip("/")), True),
}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    """A folder of the host that must stay as it is."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    canary = outside / "canary"
    canary.write_bytes(CANARY)
    os.utime(canary, ns=(10**18, 10**18))
    before = canary.stat()
    yield Target(outside)
    assert os.listdir(outside) == ["canary"]
    after = canary.stat()
    assert canary.read_bytes() == CANARY
    assert (after.st_mode, after.st_uid, after.st_nlink, after.st_mtime_ns) == (
        before.st_mode,
        before.st_uid,
        1,
        10**18,
    )
    assert os.listxattr(outside) == []


@pytest.fixture(params=["overlay", "vfs"])
def mounter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LinuxMounter]:
    mounter = LinuxMounter(tmp_path / "data", request.param)
    yield mounter
    mounter.close()


BASE = archive(folder("bin"), file("bin/sh", b"#!"))


def unpack(mounter: LinuxMounter, content: bytes, parent: str | None) -> None:
    add(mounter, content, chain_of(content, parent), parent)


def chain_of(content: bytes, parent: str | None) -> str:
    return tarballs.chain(content) if parent is None else tarballs.chain(BASE, content)


@pytest.mark.parametrize("name", [*ATTACKS, *WHITEOUTS])
def test_a_layer_cannot_reach_out_of_its_tree(
    name: str, mounter: LinuxMounter, target: Target
) -> None:
    members, refused = (ATTACKS | WHITEOUTS)[name]
    unpack(mounter, BASE, None)
    content = archive(members(target))
    if not refused:
        unpack(mounter, content, tarballs.chain(BASE))
        mounter.prepare("box", tarballs.chain(BASE, content))
        assert mounter.stat("box", "/bin/sh").size == 2
        return
    with pytest.raises(InvalidArgument):
        unpack(mounter, content, tarballs.chain(BASE))
    assert [info.key for info in mounter.snapshots()] == [tarballs.chain(BASE)]
    mounter.close()
    driver = mounter._driver.name
    for left in (".new", ".trash"):
        assert os.listdir(target.folder.parent / "data/snapshots" / driver / left) == []


@pytest.mark.parametrize("name", ATTACKS)
def test_a_copy_cannot_reach_out_of_its_container(
    name: str, mounter: LinuxMounter, target: Target
) -> None:
    members, refused = ATTACKS[name]
    unpack(mounter, BASE, None)
    mounter.prepare("box", tarballs.chain(BASE))
    fd = tarballs.memory_file(archive(members(target)))
    try:
        if refused:
            with pytest.raises(InvalidArgument):
                mounter.extract("box", "/bin", Fd(fd), ExtractOptions())
        else:
            mounter.extract("box", "/bin", Fd(fd), ExtractOptions())
        assert mounter.stat("box", "/bin/sh").size == 2
    finally:
        os.close(fd)


def test_overlay_attributes_of_an_image_are_never_set(tmp_path: Path) -> None:
    mounter = LinuxMounter(tmp_path)
    content = archive(
        pax({"SCHILY.xattr.trusted.overlay.opaque": b"y", "SCHILY.xattr.user.ok": b"1"})
        + folder("d")
    )
    unpack(mounter, content, None)
    tree = next((tmp_path / "snapshots/overlay").glob("sha256-*")) / "fs/d"
    assert os.listxattr(tree) == ["user.ok"]
    mounter.close()


def test_a_bomb_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sampan.storage.archives.compression.FREE_OUTPUT", 1 << 20)
    monkeypatch.setattr("sampan.storage.archives.compression.MAX_RATIO", 100)
    bomb = gzip.compress(archive(file("zeros", bytes(64 << 20))))
    mounter = LinuxMounter(tmp_path)
    fd = tarballs.memory_file(bomb)
    with pytest.raises(InvalidArgument, match="bomb"):
        mounter.unpack(Fd(fd), "staged-bomb")
    os.close(fd)
    mounter.close()
    assert mounter.snapshots() == []
    assert os.listdir(tmp_path / "snapshots/overlay/.trash") == []


def test_a_gigantic_sparse_file_costs_no_space(tmp_path: Path) -> None:
    records = {"GNU.sparse.size": b"%d" % (1 << 40), "GNU.sparse.map": b"0,1"}
    content = archive(pax(records), file("huge", b"x"))
    mounter = LinuxMounter(tmp_path)
    unpack(mounter, content, None)
    mounter.prepare("box", tarballs.chain(content))
    assert mounter.stat("box", "/huge").size == 1 << 40
    tree = next((tmp_path / "snapshots/overlay").glob("sha256-*")) / "fs/huge"
    assert tree.stat().st_blocks < 64
    mounter.close()


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, driver: str) -> None:
    root = tmp_path / "small"
    root.mkdir()
    mount(b"small", os.fsencode(root), b"tmpfs", 0, b"size=2m")
    try:
        mounter = LinuxMounter(root, driver)
        unpack(mounter, BASE, None)
        content = archive(file("a", bytes(1 << 20)), file("b", b"b" * (4 << 20)))
        with pytest.raises(NoSpace, match="no space left on device"):
            unpack(mounter, content, tarballs.chain(BASE))
        assert [info.key for info in mounter.snapshots()] == [tarballs.chain(BASE)]
        mounter.prepare("box", tarballs.chain(BASE))
        fd = tarballs.memory_file(content)
        with pytest.raises(NoSpace):
            mounter.extract("box", "/", Fd(fd), ExtractOptions())
        os.close(fd)
        mounter.remove("box")
        mounter.close()
        free = os.statvfs(root)
        assert free.f_bfree * free.f_bsize > 1 << 20
    finally:
        umount2(os.fsencode(root))


# --- known vulnerabilities -----------------------------------------------------------------


class Swapper:
    """Swaps a folder with a link to the host, as fast as it can, like a hostile container."""

    def __init__(self, root: Path, outside: Path) -> None:
        self._root, self._stopped = root, threading.Event()
        (root / "work/inside").mkdir(parents=True)
        os.symlink(outside, root / "work/link")
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        work = os.open(self._root / "work", os.O_RDONLY)
        exchange = 2  # RENAME_EXCHANGE, linux/fs.h
        while not self._stopped.is_set():
            syscall(NR["renameat2"], work, b"inside", work, b"link", exchange)
        os.close(work)

    def __enter__(self) -> Swapper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.fixture
def running(tmp_path: Path, target: Target) -> Iterator[tuple[LinuxMounter, Fd, Swapper]]:
    """A container that swaps /work/inside with a link to the host while it is copied."""
    mounter = LinuxMounter(tmp_path / "data")
    mounter.prepare("box", None)
    root = mounter.mount("box")
    swapper = Swapper(Path(f"/proc/self/fd/{root.number}"), target.folder)
    yield mounter, root, swapper
    root.close()
    mounter.close()


ROUNDS, MOST_ROUNDS = 150, 20_000


def rounds(successes: list[int]) -> Iterator[int]:
    """Count rounds against the swapper: 150, and more until one of them has met the folder."""
    for count in range(MOST_ROUNDS):
        if count >= ROUNDS and successes:
            return
        yield count


@pytest.mark.slow
def test_cve_2018_15664_copying_in_while_the_path_is_swapped(
    running: tuple[LinuxMounter, Fd, Swapper],
) -> None:
    mounter, root, swapper = running
    content = tarballs.memory_file(archive(file("intruder", b"x"), file("deep/intruder", b"x")))
    written: list[int] = []
    with swapper:
        for count in rounds(written):
            os.lseek(content, 0, os.SEEK_SET)
            try:
                mounter.extract("box", "/work/inside", Fd(content), ExtractOptions(), root)
                written.append(count)
            except Exception:
                continue
    os.close(content)
    assert written  # the `target` fixture checks that nothing went out


@pytest.mark.slow
def test_cve_2018_15664_copying_out_while_the_path_is_swapped(
    running: tuple[LinuxMounter, Fd, Swapper],
) -> None:
    mounter, root, swapper = running
    packed: list[int] = []
    with swapper:
        for count in rounds(packed):
            out = os.memfd_create("out")
            try:
                mounter.pack("box", "/work/inside/", Fd(out), root)
                packed.append(count)
                assert CANARY not in tarballs.contents(out)
            except AssertionError:
                raise
            except Exception:
                continue
            finally:
                os.close(out)
    assert packed


def test_cve_2019_14271_no_library_of_the_container_is_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "loaded"
    payload = f"#!/bin/sh\ntouch {marker}\n".encode()
    content = archive(
        folder("lib"),
        file("lib/libnss_files.so.2", payload, 0o755),
        folder("etc"),
        file("etc/nsswitch.conf", b"passwd: files\n"),
        file("etc/passwd", b"web:x:33:33::/:/bin/sh\n"),
    )
    mounter = LinuxMounter(tmp_path / "data")
    unpack(mounter, content, None)
    mounter.prepare("box", tarballs.chain(content))
    fd, out = tarballs.memory_file(archive(file("x"))), os.memfd_create("out")
    options = ExtractOptions(copy_uid_gid=True, user="web")
    mounter.extract("box", "/etc", Fd(fd), options)
    mounter.pack("box", "/", Fd(out))
    for number in (fd, out):
        os.close(number)
    assert "/data/snapshots/" not in Path("/proc/self/maps").read_text()
    assert not marker.exists()
    mounter.close()


@pytest.mark.parametrize("program", ["xz", "unpigz", "gzip", "zstd", "bzip2"])
def test_cve_2026_41567_no_program_of_the_container_is_executed(
    tmp_path: Path, program: str
) -> None:
    marker = tmp_path / "executed"
    payload = f"#!/bin/busybox sh\ntouch {marker}\n".encode()
    paths = [f"{where}/{program}" for where in ("bin", "usr/bin", "usr/local/bin")]
    content = archive(*(file(path, payload, 0o755) for path in paths))
    mounter = LinuxMounter(tmp_path / "data")
    unpack(mounter, content, None)
    mounter.prepare("box", tarballs.chain(content))
    import bz2
    import lzma

    import zstandard

    for compress in (gzip.compress, bz2.compress, lzma.compress, zstandard.compress):
        fd = tarballs.memory_file(compress(archive(file("x", b"1"))))
        mounter.extract("box", "/", Fd(fd), ExtractOptions())
        os.close(fd)
    assert mounter.stat("box", "/x").size == 1
    assert not marker.exists()
    mounter.close()


def test_cve_2026_41568_a_copy_follows_no_link_of_the_host_namespace(
    tmp_path: Path, target: Target
) -> None:
    content = archive(symlink("out", str(target.folder)), symlink("host", "/proc/self/root"))
    mounter = LinuxMounter(tmp_path / "data")
    unpack(mounter, content, None)
    mounter.prepare("box", tarballs.chain(content))
    fd = tarballs.memory_file(archive(file("intruder")))
    for path in ("/out", "/out/.", "/host", f"/host{target.folder}"):
        with pytest.raises(Exception, match="Could not find the file"):
            mounter.extract("box", path, Fd(fd), ExtractOptions())
        with pytest.raises(Exception, match="Could not find the file"):
            mounter.stat("box", path + "/canary")
    os.close(fd)
    mounter.close()
