"""Whole trees by descriptor."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sampan.linux import trees
from sampan.storage.inside import evaluate


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A folder with some of everything that needs no privilege."""
    tree = tmp_path / "tree"
    (tree / "b/c").mkdir(parents=True)
    (tree / "a").write_text("a")
    (tree / "b/c/deep").write_text("deep")
    os.link(tree / "a", tree / "b/link")
    os.symlink("/nowhere", tree / "b/symlink")
    os.mkfifo(tree / "z")
    fd = os.open(tree, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_walk_goes_parents_first_in_the_order_of_names(root: int) -> None:
    found = [node.path for node in trees.Walk(root)]
    assert found == [b"a", b"b", b"b/c", b"b/c/deep", b"b/link", b"b/symlink", b"z"]


def test_a_walk_leaves_out_what_is_pruned(root: int) -> None:
    walk, found = trees.Walk(root), []
    for node in walk:
        found.append(node.path)
        if node.path == b"b":
            walk.prune()
    assert found == [b"a", b"b", b"z"]


def test_a_walk_survives_what_vanishes(root: int) -> None:
    found = []
    for node in trees.Walk(root):
        found.append(node.path)
        if node.path == b"a":
            trees.remove(root, b"b")
    assert found == [b"a", b"z"]


def test_a_walk_opens_few_files_in_a_deep_tree(tmp_path: Path) -> None:
    depth = 400
    (tmp_path / "/".join(["d"] * depth)).mkdir(parents=True)
    fd = os.open(tmp_path, os.O_RDONLY)
    before = most = len(os.listdir("/proc/self/fd"))
    for count, _ in enumerate(trees.Walk(fd), 1):  # noqa: B007 - how many there were is checked
        most = max(most, len(os.listdir("/proc/self/fd")))
    os.close(fd)
    assert count == depth
    assert most - before < 80


def test_usage_counts_hard_links_once(root: int) -> None:
    size, inodes = trees.usage(root)
    assert size == len("a") + len("deep") + len("/nowhere")
    assert inodes == 6


def test_a_copy_is_the_same_and_independent(root: int, tmp_path: Path) -> None:
    os.setxattr(tmp_path / "tree/a", "user.x", b"1")
    os.utime(tmp_path / "tree/b", ns=(10**18, 10**18))
    os.chmod(tmp_path / "tree/b", 0o711)
    with open(tmp_path / "tree/hole", "wb") as file:
        file.truncate(10 << 20)
        file.seek(5 << 20)
        file.write(b"middle")
    copy = tmp_path / "copy"
    copy.mkdir()
    target = os.open(copy, os.O_RDONLY)
    trees.copy(root, target)
    os.close(target)
    assert (copy / "b/c/deep").read_text() == "deep"
    assert os.readlink(copy / "b/symlink") == "/nowhere"
    assert (copy / "a").stat().st_ino == (copy / "b/link").stat().st_ino
    assert os.getxattr(copy / "a", "user.x") == b"1"
    assert (copy / "b").stat().st_mtime_ns == 10**18
    assert stat.S_IMODE((copy / "b").stat().st_mode) == 0o711
    assert stat.S_ISFIFO((copy / "z").stat().st_mode)
    assert (copy / "hole").stat().st_size == 10 << 20
    assert (copy / "hole").stat().st_blocks < 1000
    (copy / "a").write_text("changed")
    assert (tmp_path / "tree/a").read_text() == "a"


def test_several_may_remove_the_same_tree(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"tree/{number % 9}/{number}/below").mkdir(parents=True)
        (tmp_path / f"tree/{number % 9}/{number}/below/file").touch()
    deep = tmp_path / "tree/deep" / "/".join("d" * 60)
    deep.mkdir(parents=True)
    folder = os.open(tmp_path, os.O_RDONLY)
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda _: trees.remove(folder, b"tree"), range(8)))
    os.close(folder)
    assert done == [None] * 8
    assert os.listdir(tmp_path) == []


def test_removing_follows_no_link(root: int, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    os.symlink(outside, tmp_path / "tree/b/out")
    trees.remove(root, b"b")
    trees.remove(root, b"never there")
    assert (outside / "file").exists()
    assert sorted(os.listdir(root)) == ["a", "z"]


@pytest.mark.parametrize(
    ("links", "path", "expected"),
    [
        ({}, b"/x/y", b"x/y"),
        ({}, b"../../x", b"x"),
        ({"a": "/b"}, b"a/c", b"b/c"),
        ({"a": "../../../b"}, b"a", b"b"),
        ({"a": "b", "b": "c/../d"}, b"/a/./e/", b"d/e"),
        ({"a": "/"}, b"a/a/a/x", b"x"),
    ],
)
def test_a_path_is_what_a_process_inside_sees(
    tmp_path: Path, links: dict[str, str], path: bytes, expected: bytes
) -> None:
    for name, target in links.items():
        os.symlink(target, tmp_path / name)
    fd = os.open(tmp_path, os.O_RDONLY)
    assert evaluate(fd, path) == expected
    os.close(fd)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    os.symlink("b", tmp_path / "a")
    os.symlink("a", tmp_path / "b")
    os.symlink("grow/grow", tmp_path / "grow")
    fd = os.open(tmp_path, os.O_RDONLY)
    for path in (b"a", b"grow"):
        with pytest.raises(OSError, match=r"Too many levels|too long"):
            evaluate(fd, path)
    os.close(fd)
