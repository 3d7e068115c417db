"""Paths inside a foreign root: nothing may lead out of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.linux import paths


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A root directory and its descriptor."""
    folder = tmp_path / "root"
    folder.mkdir()
    fd = os.open(folder, os.O_PATH)
    yield folder, fd
    os.close(fd)


def name_of(fd: int) -> str:
    """Return what a descriptor stands for, and close it."""
    name = os.readlink(f"/proc/self/fd/{fd}")
    os.close(fd)
    return name


def test_an_absolute_link_is_resolved_inside_the_root(root: tuple[Path, int]) -> None:
    folder, fd = root
    (folder / "etc").mkdir()
    (folder / "link").symlink_to("/etc")
    assert name_of(paths.open_in_root(fd, b"/link")) == str(folder / "etc")
    assert name_of(paths.open_in_root(fd, b"/link/../../../..")) == str(folder)


def test_links_can_be_refused_altogether(root: tuple[Path, int]) -> None:
    folder, fd = root
    (folder / "link").symlink_to("/")
    with pytest.raises(OSError) as caught:
        paths.open_in_root(fd, b"link", links=False)
    assert caught.value.errno == errno.ELOOP


def test_missing_folders_are_made_inside_the_root_only(root: tuple[Path, int]) -> None:
    folder, fd = root
    (folder / "var").symlink_to("/data")
    (folder / "data").mkdir()
    assert name_of(paths.mkdir_in_root(fd, b"/var/a/b")) == str(folder / "data/a/b")
    assert name_of(paths.mkdir_in_root(fd, b"/var/a/b")) == str(folder / "data/a/b")


def test_folders_are_not_made_through_a_dangling_link(root: tuple[Path, int]) -> None:
    folder, fd = root
    outside = folder.parent / "outside"
    (folder / "link").symlink_to(outside)
    with pytest.raises(FileExistsError):
        paths.mkdir_in_root(fd, b"/link/a")
    assert not outside.exists()
    with pytest.raises(OSError, match="Invalid argument"):
        paths.mkdir_in_root(fd, b"/new/../../x")


def test_a_missing_file_is_made_with_its_folders(root: tuple[Path, int]) -> None:
    folder, fd = root
    assert name_of(paths.make_file_in_root(fd, b"/a/b")) == str(folder / "a/b")
    (folder / "a/b").write_text("kept")
    os.close(paths.make_file_in_root(fd, b"/a/b"))
    assert (folder / "a/b").read_text() == "kept"


def test_a_device_must_be_the_one_it_is_called(tmp_path: Path) -> None:
    os.close(paths.open_device(b"/dev/null", 1, 3))
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    for path, minor in ((b"/dev/null", 5), (os.fsencode(link), 3)):
        with pytest.raises(OSError, match="No such device"):
            paths.open_device(path, 1, minor)


def test_procfs_is_verified_and_magic_links_are_not_followed() -> None:
    proc = paths.open_proc()
    try:
        os.close(paths.open_below(proc, b"self/status", os.O_RDONLY))
        with pytest.raises(OSError) as caught:
            paths.open_below(proc, b"self/root/etc", os.O_PATH)
        assert caught.value.errno == errno.ELOOP
        with pytest.raises(OSError) as caught:
            paths.open_below(proc, b"../etc/passwd", os.O_PATH)
        assert caught.value.errno == errno.EXDEV
    finally:
        os.close(proc)


def test_what_is_not_procfs_is_refused(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    with pytest.raises(OSError, match="No such device"):
        paths.verify_proc(fd)
    os.close(fd)


def test_descriptors_are_close_on_exec(root: tuple[Path, int]) -> None:
    fd = paths.open_in_root(root[1], b"/")
    assert not os.get_inheritable(fd)
    os.close(fd)
