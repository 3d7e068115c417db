from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from sampan.linux import aio
from sampan.registry.drivers.driver import ANYHOW, File
from sampan.registry.drivers.filesystem import TRASH, FilesystemDriver, StagedFiles


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FilesystemDriver(str(tmp_path))
    driver.write([("a/old", b"old")])

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(aio, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        driver.stage([File("a/old", b"new"), File("b/new", b"x")])
    assert driver.read("a/old") == b"old"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["old"]


def test_what_a_removal_left_half_is_gone_with_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / TRASH / "x" / "y"
    left.mkdir(parents=True)
    FilesystemDriver(str(tmp_path))
    assert list((tmp_path / TRASH).iterdir()) == []


def test_what_is_mounted_from_elsewhere_is_removed_before_what_it_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FilesystemDriver(str(tmp_path))
    rename, rmtree = os.rename, shutil.rmtree
    done: list[str] = []

    def mounted(source: str, target: str) -> None:
        if "/tags/" in source:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)
        done.append(source)

    def removed(path: str) -> None:
        rmtree(path)
        done.append(path)

    driver.write([("revisions/1/link", b""), ("tags/1/link", b""), ("blobs/1/data", b"")])
    monkeypatch.setattr(os, "rename", mounted)
    monkeypatch.setattr(shutil, "rmtree", removed)
    driver.delete(["tags/1", "tags/2"], ["revisions/1"], ["blobs/1"], within=ANYHOW)
    names = ("tags/1", "revisions/1", "blobs/1")
    assert [path for path in done if TRASH not in path] == [f"{tmp_path}/{name}" for name in names]
    assert driver.sizes([f"{name}/link" for name in names]) == [None] * 3


def test_what_cannot_go_to_the_trash_goes_all_the_same(tmp_path: Path) -> None:
    driver = FilesystemDriver(str(tmp_path))
    driver.write([("a/b", b"")])
    (tmp_path / TRASH).rmdir()
    driver.delete(["a", "none"], within=ANYHOW)
    assert driver.list("a") == []


def test_temporary_files_are_not_listed(tmp_path: Path) -> None:
    driver = FilesystemDriver(str(tmp_path))
    driver.write([("a/b", b"")])
    (tmp_path / "a/b.0123.tmp").write_bytes(b"")
    assert driver.list("a") == ["b"]


def test_contents_outlast_a_power_failure_before_they_have_names_and_then_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FilesystemDriver(str(tmp_path))
    driver.write([("blobs/12/34/data", b"")])
    synced = _recorded(tmp_path, monkeypatch)
    files = [File("a/told/link", b"x", told=True), File("a/one", b"x"), File("b/other", b"x")]
    with driver.stage(files) as staged:
        assert synced == [{"/a/one", "/b/other"}]
        staged.publish()
        assert len(synced) == 1
        staged.settle(["blobs/12/34/data"])
    assert synced[1:] == [{"/a/told", "/a", "/b", "", "/blobs/12/34", "/blobs/12", "/blobs"}]


def _recorded(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Return what is synced from now on, together, by its name below a root."""
    synced: list[set[str]] = []

    def note(descriptors: Sequence[int]) -> None:
        names = [os.readlink(f"/proc/self/fd/{one}") for one in descriptors]
        synced.append({name.removeprefix(str(root)).partition(".")[0] for name in names})

    monkeypatch.setattr(aio, "fsync", note)
    return synced


def _link(driver: FilesystemDriver, path: str) -> StagedFiles:
    return driver.stage([File(path, b"", told=True)])


def _settled(driver: FilesystemDriver, path: str, synced: list[set[str]]) -> set[str]:
    """Write a file, and return what was synced for that."""
    with _link(driver, path) as staged:
        staged.publish()
        staged.settle()
    return synced[-1]


def test_a_folder_that_another_has_just_made_is_synced_by_all_who_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FilesystemDriver(str(tmp_path))
    synced = _recorded(tmp_path, monkeypatch)
    with _link(driver, "a/b/one") as slow:
        slow.publish()
        assert _settled(driver, "a/b/two", synced) == {"/a/b", "/a", ""}
        assert _settled(driver, "a/b/three", synced) == {"/a/b"}
        slow.settle()
        assert synced[-1] == {"/a/b", "/a", ""}


def test_folders_of_uploads_last_when_what_comes_of_these_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FilesystemDriver(str(tmp_path))
    synced = _recorded(tmp_path, monkeypatch)
    driver.write([("a/uploads/1/begun", b"")])
    driver.append("blobs/1/2/3/data", 0).close()
    assert _settled(driver, "a/links/x/link", synced) == {"/a/links/x", "/a/links", "/a", ""}
    driver.settle(["blobs/1/2/3/data"])
    assert synced[-1] == {"/blobs/1/2/3", "/blobs/1/2", "/blobs/1", "/blobs"}
    assert _settled(driver, "a/uploads/x", synced) == {"/a/uploads"}


def test_a_folder_that_was_removed_is_new_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = FilesystemDriver(str(tmp_path))
    synced = _recorded(tmp_path, monkeypatch)
    _settled(driver, "a/b/one", synced)
    with _link(driver, "a/b/two") as staged:
        driver.delete(["a/b"], within=ANYHOW)
        staged.publish()
        staged.settle()
    assert synced[-1] == {"/a/b", "/a"}


def test_a_folder_below_a_link_to_nothing_cannot_be_made(tmp_path: Path) -> None:
    driver = FilesystemDriver(str(tmp_path))
    (tmp_path / "a").symlink_to("none")
    with pytest.raises(FileNotFoundError):
        _link(driver, "a/b/one")
