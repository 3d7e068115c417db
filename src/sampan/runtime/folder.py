"""The folder of one container: its log and the small files that are mounted into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from sampan.errors import InvalidArgument, NotFound

_REMOVED = ".removed-"
_LONGEST = 1 << 20  # bytes of a file that the container may have made longer


class Folders:
    """All folders below <data root>/containers; the daemon's group may read them."""

    def __init__(self, root: Path, gid: int) -> None:
        self._root, self._gid = root, gid
        root.mkdir(mode=0o750, parents=True, exist_ok=True)
        os.chown(root, -1, gid)
        os.chmod(root, 0o750)  # noqa: S103 - the daemon's group reads logs
        for leftover in root.glob(_REMOVED + "*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def path(self, container: str) -> Path:
        """Return the folder of a container."""
        return self._root / container

    def make(self, container: str, files: Mapping[str, bytes], owner: int) -> None:
        """Make the folder and write `files` into it, owned by `owner` (0644, atomically).

        Raises InvalidArgument for a name that is not one file name.
        """
        for name in files:
            _check(name)
        folder = f"{self._root}/{container}"
        try:
            os.mkdir(folder, 0o750)
            os.chown(folder, -1, self._gid)
        except FileExistsError:
            pass
        for name, content in files.items():
            _write(folder, name, content, owner)

    def edit(self, container: str, name: str, remove: Sequence[str], add: Sequence[str]) -> bool:
        """Change lines of a file in place: it is mounted into the container.

        Nothing is done, and False returned, if one of `remove` is missing, or if a program in the
        container holds a lease: the kernel would have us wait for it 45 seconds, and everybody
        with us. NotFound without file.
        """
        _check(name)
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(f"{self._root}/{container}/{name}", flags)
        except FileNotFoundError as error:
            raise NotFound(f"container {container} has no file {name}") from error
        except BlockingIOError:
            return False
        with open(descriptor, "r+b") as file:
            lines = file.read(_LONGEST).decode(errors="surrogateescape").splitlines()
            if not set(remove) <= set(lines):
                return False
            at = next((place for place, line in enumerate(lines) if line in remove), len(lines))
            kept = [
                [line for line in part if line not in remove] for part in (lines[:at], lines[at:])
            ]
            text = "".join(f"{line}\n" for line in [*kept[0], *add, *kept[1]])
            file.seek(0)
            file.write(text.encode(errors="surrogateescape"))
            file.truncate()
        return True

    def remove(self, container: str) -> None:
        """Delete the folder: it is gone by name first."""
        folder = self._root / container
        removed = self._root / f"{_REMOVED}{container}"
        try:
            os.rename(folder, removed)
        except FileNotFoundError:
            return
        shutil.rmtree(removed, ignore_errors=True)


def _check(name: str) -> None:
    if not name or "/" in name or "\0" in name or name.startswith("."):
        raise InvalidArgument(f"invalid file name: {name!r}")


def _write(folder: str, name: str, content: bytes, owner: int) -> None:
    temporary = f"{folder}/.{name}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
        if owner:
            os.fchown(descriptor, owner, owner)
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
    finally:
        os.close(descriptor)
    os.rename(temporary, f"{folder}/{name}")
