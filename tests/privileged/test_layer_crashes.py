"""Layers while processes die: at every step, a layer is staged or committed or gone, and whole."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sampan import rpc
from sampan.errors import InvalidArgument, NoSpace, SampanError, Unavailable
from sampan.linux.mounts import mount, umount2
from sampan.rpc import Fd
from sampan.storage.linux_mounter import LinuxMounter
from sampan.storage.mounter import Mounter
from tests import tarballs
from tests.layers import add
from tests.session import PATIENCE, eventually
from tests.tarballs import archive, file, folder, hardlink, pax, symlink

pytestmark = pytest.mark.privileged

STEPS = (
    *("open", "write", "rename", "link", "unlink", "mkdir", "rmdir", "mknod", "utime"),
    *("fsync", "symlink", "fchmod", "fchown", "setxattr", "copy_file_range"),
)

BASE = archive(folder("etc", 0o750), file("etc/passwd", b"root" * 1000), symlink("etc/motd", "x"))
UPPER = archive(
    file("etc/new", b"new"),
    hardlink("one", "etc/passwd"),
    hardlink("two", "one"),
    hardlink("three", "etc/motd"),
    file(".wh.gone"),
    pax({"SCHILY.xattr.user.x": b"1"}) + file("big", b"b" * 70_000),
    file("big", b"again"),
    folder("late"),
)
CHAIN = tarballs.chain(BASE, UPPER)


def dies_at(number: int) -> None:
    """Have this process killed when it comes to the `number`-th step that changes something."""
    left = [number]

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **named)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Run an action in a child that dies at a step; False if it came to its end before."""
    child = os.fork()
    if child == 0:
        try:
            dies_at(number)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def points() -> Iterator[int]:
    """Yield all points of death, until `killed_at` finds no more."""
    yield from range(1, 2000)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A data root in memory: hundreds of layers are written to disk here."""
    folder = tmp_path / "root"
    folder.mkdir()
    mount(b"root", os.fsencode(folder), b"tmpfs", 0, b"size=64m")
    yield folder
    umount2(os.fsencode(folder))


@pytest.fixture(params=["overlay", "vfs"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stage(mounter: LinuxMounter, content: bytes = UPPER) -> None:
    fd = tarballs.memory_file(content)
    try:
        mounter.unpack(Fd(fd), "staged-upper", tarballs.chain(BASE))
    finally:
        os.close(fd)


def check_whole(mounter: LinuxMounter) -> None:
    """The layer is there, and everything in it."""
    assert mounter.verify(CHAIN) == []
    with mounter.mount(CHAIN) as fd:
        root = Path(f"/proc/self/fd/{fd.number}")
        assert (root / "two").read_bytes() == b"root" * 1000
        assert (root / "etc/passwd").stat().st_nlink == 3
        assert os.readlink(root / "three") == "x"
        assert (root / "etc").stat().st_mode & 0o777 == 0o750
        assert (root / "big").read_bytes() == b"again"
        assert (root / "etc/new").read_bytes() == b"new"


def check_clean(root: Path, mounter: LinuxMounter) -> None:
    mounter.close()
    for left in (".new", ".trash"):
        assert os.listdir(root / "snapshots" / mounter._driver.name / left) == []


@pytest.mark.slow
def test_unpacking_that_dies_at_any_step_leaves_nothing_or_a_whole_layer(
    root: Path, driver: str
) -> None:
    mounter = LinuxMounter(root, driver)
    add(mounter, BASE, tarballs.chain(BASE))
    mounter.close()
    for point in points():
        died = killed_at(point, lambda: stage(LinuxMounter(root, driver)))
        mounter = LinuxMounter(root, driver)
        staged = [info for info in mounter.snapshots() if info.kind == "staged"]
        if staged or not died:
            assert [info.diff_id for info in staged] == [tarballs.digest(UPPER)]
            mounter.commit("staged-upper", CHAIN, tarballs.chain(BASE))
            check_whole(mounter)
            mounter.remove(CHAIN)
        check_clean(root, mounter)
        if not died:
            assert point > 50
            return
    pytest.fail("it never came to its end")


@pytest.mark.slow
def test_a_commit_that_dies_at_any_step_can_be_repeated(root: Path, driver: str) -> None:
    mounter = LinuxMounter(root, driver)
    add(mounter, BASE, tarballs.chain(BASE))
    mounter.close()

    def commit() -> None:
        LinuxMounter(root, driver).commit("staged-upper", CHAIN, tarballs.chain(BASE))

    for point in points():
        mounter = LinuxMounter(root, driver)
        stage(mounter)
        mounter.close()
        died = killed_at(point, commit)
        mounter = LinuxMounter(root, driver)
        kinds = {info.key: info.kind for info in mounter.snapshots()}
        assert kinds.keys() in (
            {"staged-upper", tarballs.chain(BASE)},
            {CHAIN, tarballs.chain(BASE)},
        )
        mounter.commit("staged-upper", CHAIN, tarballs.chain(BASE))
        check_whole(mounter)
        mounter.remove(CHAIN)
        check_clean(root, mounter)
        if not died:
            return
    pytest.fail("it never came to its end")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_killed_child_costs_one_call_and_leaves_nothing(tmp_path: Path) -> None:
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    with sock:
        mounter = rpc.connect(Mounter, sock, deadline=60)
        read, write = os.pipe()
        failures: list[BaseException] = []

        def unpack() -> None:
            try:
                mounter.unpack(Fd(read), "staged-x")
            except Unavailable as error:
                failures.append(error)

        thread = threading.Thread(target=unpack)
        thread.start()
        os.write(write, BASE[:3000])
        eventually(lambda: children(process.pid) != [])
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
        thread.join()
        assert len(failures) == 1
        for fd in (read, write):
            os.close(fd)
        assert mounter.snapshots() == []
        add(mounter, BASE, tarballs.chain(BASE))
        mounter.remove(tarballs.chain(BASE))
        new = tmp_path / "snapshots/overlay/.new"
        eventually(lambda: not any(new.iterdir()))
    assert process.wait(PATIENCE) == 0


def test_a_helper_killed_in_the_middle_leaves_a_child_that_harms_nobody(tmp_path: Path) -> None:
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    read, write = os.pipe()

    def unpack() -> None:
        with suppress(SampanError):  # whatever the child ran into
            mounter.unpack(Fd(read), "staged-x")

    with sock:
        mounter = rpc.connect(Mounter, sock, deadline=60)
        thread = threading.Thread(target=unpack)
        thread.start()
        content = archive(*(file(f"d{n}/f", b"x" * 3000) for n in range(200)))
        os.write(write, content[:30_000])
        eventually(lambda: children(process.pid) != [])
        (child,) = children(process.pid)
        process.kill()
        process.wait()
        again = LinuxMounter(tmp_path)
        assert again.snapshots() == []
        with suppress(BrokenPipeError), open(write, "wb") as rest:
            os.close(read)
            rest.write(content[30_000:])
        thread.join()
        eventually(lambda: not is_running(child))
    for info in again.snapshots():
        again.commit(info.key, tarballs.chain(content), None)
        assert again.verify(tarballs.chain(content)) == []
    again.close()
    mounter = LinuxMounter(tmp_path)
    mounter.close()
    for left in (".new", ".trash"):
        assert os.listdir(tmp_path / "snapshots/overlay" / left) == []


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_killed_helper_leaves_what_was_staged(tmp_path: Path) -> None:
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    with sock:
        mounter = rpc.connect(Mounter, sock, deadline=60)
        fd = tarballs.memory_file(BASE)
        mounter.unpack(Fd(fd), "staged-base")
        os.close(fd)
        process.kill()
        process.wait()
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    with sock:
        mounter = rpc.connect(Mounter, sock, deadline=60)
        (info,) = mounter.snapshots()
        assert (info.key, info.kind, info.diff_id) == (
            "staged-base",
            "staged",
            tarballs.digest(BASE),
        )
        mounter.commit("staged-base", tarballs.chain(BASE), None)
        assert mounter.verify(tarballs.chain(BASE)) == []
    assert process.wait(PATIENCE) == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "small"
    root.mkdir()
    mount(b"small", os.fsencode(root), b"tmpfs", 0, b"size=6m")
    yield root
    umount2(os.fsencode(root))


@pytest.mark.parametrize("size", [1 << 20, 7 << 20])
def test_a_disk_that_is_full_in_the_middle_leaves_nothing(
    small: Path, driver: str, size: int
) -> None:
    mounter = LinuxMounter(small, driver)
    content = archive(*(file("same", os.urandom(size)) for _ in range(8)))
    with pytest.raises(NoSpace):
        add(mounter, content, tarballs.chain(content))
    assert mounter.snapshots() == []
    check_clean(small, mounter)
    free = os.statvfs(small)
    assert free.f_bfree * free.f_bsize > 5 << 20


def test_a_disk_that_is_full_while_links_are_settled_lets_it_be_tried_again(small: Path) -> None:
    mounter = LinuxMounter(small)
    base = archive(file("large", bytes(range(256)) * (8 << 10)))
    upper = archive(hardlink("link", "large"))
    chain = tarballs.chain(base, upper)
    add(mounter, base, tarballs.chain(base))
    fd = tarballs.memory_file(upper)
    mounter.unpack(Fd(fd), "staged-upper")
    os.close(fd)
    (small / "filler").write_bytes(bytes(3 << 20))
    with pytest.raises(NoSpace):
        mounter.commit("staged-upper", chain, tarballs.chain(base))
    assert {info.kind for info in mounter.snapshots()} == {"staged", "committed"}
    (small / "filler").unlink()
    mounter.commit("staged-upper", chain, tarballs.chain(base))
    with mounter.mount(chain) as root:
        assert (Path(f"/proc/self/fd/{root.number}") / "link").stat().st_size == 2 << 20
    mounter.close()


def test_two_that_commit_the_same_layer_do_not_disturb_each_other(tmp_path: Path) -> None:
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "overlay"])
    with sock:
        mounter = rpc.connect(Mounter, sock, deadline=60)
        add(mounter, BASE, tarballs.chain(BASE))
        fd = tarballs.memory_file(UPPER)
        mounter.unpack(Fd(fd), "staged-upper")
        os.close(fd)
        failures: list[BaseException] = []

        def commit() -> None:
            try:
                mounter.commit("staged-upper", CHAIN, tarballs.chain(BASE))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=commit) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert {info.kind for info in mounter.snapshots()} == {"committed"}
        assert mounter.verify(CHAIN) == []
    assert process.wait(PATIENCE) == 0


def test_a_parent_chosen_later_does_not_change_what_was_checked(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_bytes(b"untouched")
    mounter = LinuxMounter(tmp_path / "data")
    hostile = archive(
        symlink("door", str(outside)), symlink("up", "../" * 30 + str(outside).lstrip("/"))
    )
    add(mounter, hostile, tarballs.chain(hostile))
    for target in ("door/canary", "up/canary", "door/../canary"):
        upper = archive(hardlink("link", target), file("door2/x"))
        with pytest.raises(InvalidArgument):
            add(mounter, upper, tarballs.chain(hostile, upper), tarballs.chain(hostile))
    implied = archive(file("door/new", b"x"))
    add(mounter, implied, tarballs.chain(hostile, implied), tarballs.chain(hostile))
    assert os.listdir(outside) == ["canary"]
    assert (outside / "canary").stat().st_nlink == 1
    mounter.close()
