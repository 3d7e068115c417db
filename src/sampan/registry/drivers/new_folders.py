"""Folders that were made a moment ago, whose names a power failure may still take.

Who makes a folder syncs the one above it before it answers. But others who come meanwhile find
the folder there: they have to sync the one above it too, or what they answer for may go with it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from contextlib import suppress

from sampan.registry.drivers.syncing import sync_folders

# That are remembered. Nobody waits for the folders of uploads to last, so they are new until those
# end; and all that are remembered are looked at again and again.
MOST = 256


class NewFolders:
    """Makes folders, and remembers them until the folders above them were synced."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: dict[str, object] = {}  # folder → a mark of the time that it was made

    def make(self, folder: str) -> list[str]:
        """Make a folder; return what has to be synced for it to last: itself, and those above."""
        self._make(folder)
        return self.unsynced(folder)

    def _make(self, folder: str) -> None:
        try:
            self._mkdir(folder)
        except FileNotFoundError:
            self._make(os.path.dirname(folder))
            self._mkdir(folder)

    def _mkdir(self, folder: str) -> None:
        with self._lock:  # nobody finds it before it counts as new
            try:
                os.mkdir(folder, 0o755)
            except FileExistsError:
                return
            self._new[folder] = object()
            oldest = next(iter(self._new)) if len(self._new) > MOST else ""
        if oldest:
            self._sync(os.path.dirname(oldest))

    def _sync(self, above: str) -> None:
        """Make all that is new in a folder outlast a power failure, and forget it."""
        lasting = self.within([above])
        with suppress(FileNotFoundError):  # it was removed meanwhile, with what was in it
            sync_folders([above])
        self.synced(lasting)

    def unsynced(self, folder: str) -> list[str]:
        """Return a folder, and those above it that have new names in them, innermost first."""
        found = [folder]
        while folder in self._new:
            folder = os.path.dirname(folder)
            found.append(folder)
        return found

    def within(self, folders: Collection[str]) -> dict[str, object]:
        """Return the new folders, with their marks, that last once some others are synced."""
        with self._lock:
            return {n: mark for n, mark in self._new.items() if os.path.dirname(n) in folders}

    def synced(self, lasting: dict[str, object]) -> None:
        """Forget folders that last now, unless they were removed and made once more meanwhile."""
        with self._lock:
            for folder, mark in lasting.items():
                if self._new.get(folder) is mark:
                    del self._new[folder]

    def removed(self, folder: str) -> None:
        """Forget a folder, with all that was in it."""
        with self._lock:
            inside = [name for name in self._new if f"{name}/".startswith(f"{folder}/")]
            for name in inside:
                del self._new[name]
