from __future__ import annotations

import threading
from pathlib import Path

from sampan.registry.drivers.new_folders import NewFolders


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
