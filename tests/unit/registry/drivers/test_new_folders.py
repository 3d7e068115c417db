from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sampan.registry.drivers.new_folders import MOST, NewFolders


def test_who_finds_a_folder_knows_what_has_to_be_synced_for_it(tmp_path: Path) -> None:
    """Whichever of those who come at once has made it."""
    new = NewFolders()
    found: list[list[str]] = []
    deep = tmp_path / "a" / "b" / "c"
    begin = threading.Barrier(8)

    def work() -> None:
        begin.wait()
        found.append(new.make(str(deep)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[str(one) for one in (deep, *list(deep.parents)[:3])]] * 8


def test_a_folder_that_was_made_once_more_stays_new(tmp_path: Path) -> None:
    new = NewFolders()
    folder, above = str(tmp_path / "a"), str(tmp_path)
    new.make(folder)
    syncing = new.within([above])
    new.removed(folder)
    (tmp_path / "a").rmdir()
    new.make(folder)
    new.synced(syncing)
    assert new.unsynced(folder) == [folder, above]
    new.synced(new.within([above]))
    assert new.unsynced(folder) == [folder]


def test_no_more_are_remembered_than_can_be_looked_at_and_the_others_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may begin as many uploads as it likes, in as many repositories."""
    new = NewFolders()
    synced: set[str] = set()
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        fsync(descriptor)
        synced.update(map(str, Path(f"/proc/self/fd/{descriptor}").readlink().iterdir()))

    monkeypatch.setattr(os, "fsync", noting)
    folders = [tmp_path / f"team-{n % 3}" / str(n) for n in range(3 * MOST)]
    folders += [tmp_path / f"lonely-{n}" / "upload" for n in range(MOST)]
    for folder in folders:
        new.make(str(folder))
    remembered = [path for path in folders if new.unsynced(str(path)) != [str(path)]]
    assert len(remembered) <= MOST
    for path in folders:
        found = new.unsynced(str(path))
        for one in (path, path.parent):
            assert str(one.parent) in found or str(one) in synced
