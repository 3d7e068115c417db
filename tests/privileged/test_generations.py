"""What a btrfs snapshot changed, found by generations, is what comparing whole trees finds."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.linux import btrfs
from sampan.linux.trees import Walk
from sampan.storage.layers.comparing import altered, compare
from sampan.storage.layers.generations import changed_paths, compare_snapshot, nodes
from tests.filesystems import Shop, kernel_has

pytestmark = pytest.mark.privileged


@pytest.fixture
def folder(filesystems: Shop) -> Iterator[Path]:
    if not kernel_has("btrfs"):
        pytest.skip("this kernel has no btrfs")
    with filesystems.folder("btrfs") as folder:
        yield folder


@contextlib.contextmanager
def opened(*folders: Path) -> Iterator[list[int]]:
    fds = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in folders]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def snapshot(folder: Path, source: str, name: str) -> Path:
    with opened(folder, folder / source) as (into, original):
        btrfs.create_snapshot(original, into, name.encode())
    return folder / name


def original(folder: Path, files: int = 40) -> Path:
    with opened(folder) as (fd,):
        btrfs.create_subvolume(fd, b"old")
    old = folder / "old"
    for number in range(8):
        (old / f"d{number}" / "sub").mkdir(parents=True)
    for number in range(files):
        where = old / f"d{number % 8}" / ("sub" if number % 3 else ".")
        (where / f"f{number}").write_bytes(b"%d" % number * 50)
    os.link(old / "d0/f0", old / "d1/hard")
    os.symlink("f0", old / "d0/link")
    return old


def paths(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*"))


def act(root: Path, chance: random.Random) -> None:
    """Change something, as a container might."""
    there = paths(root)
    files = [path for path in there if path.is_file() and not path.is_symlink()]
    folders = [root, *(path for path in there if path.is_dir() and not path.is_symlink())]
    path, other = chance.choice(files or [root]), chance.choice(folders)
    name = other / f"n{chance.randrange(1000)}"
    kind = chance.randrange(14)
    with contextlib.suppress(OSError):
        if kind == 0:
            path.write_bytes(os.urandom(chance.randrange(1, 5000)))
        elif kind == 1:
            path.unlink()
        elif kind == 2:
            name.write_bytes(b"new")
        elif kind == 3:
            name.mkdir()
        elif kind == 4:
            path.rename(name)
        elif kind == 5:
            chance.choice(folders[1:]).rename(name)
        elif kind == 6:
            os.link(path, name)
        elif kind == 7:
            path.chmod(chance.choice([0o600, 0o644, 0o4755]))
        elif kind == 8:
            subprocess.run(["rm", "-rf", chance.choice(folders[1:])], check=True)
        elif kind == 9:
            status = path.stat()
            path.write_bytes(os.urandom(status.st_size))
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        elif kind == 10:
            os.setxattr(path, "user.x", os.urandom(4))
        elif kind == 11:
            path.unlink()
            path.mkdir()
            (path / "inside").touch()
        elif kind == 12:
            os.symlink("somewhere", name)
        else:
            with opened(other) as (fd,):
                btrfs.create_subvolume(fd, os.fsencode(name.name))
            (name / "within").write_bytes(b"x")


@pytest.mark.parametrize("seed", range(40))
def test_the_same_is_found_as_by_comparing_all(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    old = original(folder)
    new = snapshot(folder, "old", "new")
    for _ in range(chance.choice([0, 1, 3, 10, 30])):
        act(new, chance)
    with opened(new, old) as (now, then):
        assert changed_paths(now, then) is not None
        assert compare_snapshot(now, then) == compare(now, then, altered)


def test_only_what_was_changed_is_looked_at(folder: Path) -> None:
    old = original(folder, files=2000)
    new = snapshot(folder, "old", "new")
    (new / "d3/f3").write_text("changed")
    with opened(new, old) as (now, then):
        found = changed_paths(now, then)
    assert found is not None
    assert b"d3/f3" in found
    assert len(found) < 200


def test_a_snapshot_of_a_snapshot_has_only_its_own_changes(folder: Path) -> None:
    original(folder)
    middle = snapshot(folder, "old", "middle")
    (middle / "d1/of-the-middle").touch()
    new = snapshot(folder, "middle", "new")
    (new / "d2/own").touch()
    with opened(new, middle) as (now, then):
        assert compare_snapshot(now, then) == {b"d2/own": 1}


def test_nodes_come_in_the_order_of_a_walk(folder: Path) -> None:
    old = original(folder)
    for name in ("d1.x", "d1-", "d10", "d1/sub.x"):
        (old / name).mkdir()
    with opened(old) as (fd,):
        walked = [node.path for node in Walk(fd)]
        assert [node.path for node in nodes(fd, set(walked) | {b"not/there"})] == walked
