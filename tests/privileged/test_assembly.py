"""The tree of a container at rest: its root with its bind mounts, away from the host's mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.linux import mounts
from sampan.runtime.roots.assembly import assemble
from sampan.runtime.spawner import Bind
from tests.session import own_mounts

pytestmark = pytest.mark.privileged


@pytest.fixture
def root() -> Iterator[int]:
    """A detached tmpfs with /data/inside."""
    fd = mounts.new_filesystem(b"tmpfs", [], 0, b"tmpfs")
    os.mkdir("data", dir_fd=fd)
    os.mkdir("data/inside", dir_fd=fd)
    yield fd
    os.close(fd)


def listed(tree: int, path: str) -> list[str]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=tree)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def test_binds_are_where_they_belong_and_the_host_sees_no_mount(root: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").touch()
    before = own_mounts()
    binds = [
        Bind(source=str(source / "file"), destination="/new/place/file"),
        Bind(source=str(source), destination="/new/place"),
    ]
    tree = assemble(root, binds, str(tmp_path))
    try:
        assert own_mounts() == before
        assert listed(tree, "new/place") == ["file"]
        assert listed(tree, "data") == ["inside"]
    finally:
        os.close(tree)


def test_an_empty_source_is_filled_once(root: int, tmp_path: Path) -> None:
    source = tmp_path / "volume"
    source.mkdir()
    bind = Bind(source=str(source), destination="/data", copy_up=True)
    again = mounts.clone_tree(root)  # a mount can be assembled once
    os.close(assemble(root, [bind], str(tmp_path)))
    assert [path.name for path in source.iterdir()] == ["inside"]
    (source / "inside").rmdir()
    (source / "own").touch()
    os.close(assemble(again, [bind], str(tmp_path)))
    os.close(again)
    assert [path.name for path in source.iterdir()] == ["own"]


def test_a_read_only_bind_takes_nothing(root: int, tmp_path: Path) -> None:
    bind = Bind(source=str(tmp_path), destination="/data", read_only=True)
    tree = assemble(root, [bind], str(tmp_path))
    try:
        with pytest.raises(OSError, match="Read-only"):
            os.mkdir("data/new", dir_fd=tree)
    finally:
        os.close(tree)


def test_a_link_in_the_root_does_not_lead_out(root: int, tmp_path: Path) -> None:
    os.symlink(str(tmp_path), "way-out", dir_fd=root)
    bind = Bind(source=str(tmp_path), destination="/way-out/made")
    with pytest.raises(InvalidArgument):
        os.close(assemble(root, [bind], str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_is_not_there_is_told(root: int, tmp_path: Path) -> None:
    bind = Bind(source=str(tmp_path / "ghost"), destination="/data")
    with pytest.raises(InvalidArgument, match="ghost"):
        assemble(root, [bind], str(tmp_path))
