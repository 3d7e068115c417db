"""Unpacks what a container sent, below one directory and nowhere else.

The archive is hostile: a name, a link or an earlier entry may try to lead out of the directory. So
every part of a path is opened by its parent's descriptor and never through a link.
"""

from __future__ import annotations

import os
import stat
import tarfile

from sampan.cli.copying.paths import renamed
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO

COPY_BYTES = 256 << 10
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PiecesFile:
    """Pieces of bytes as a file that can be read once; counts what went through."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""
        self.count = 0

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end."""
        parts = [self._rest]
        have = len(self._rest)
        while have < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        self._rest = data[size:]
        self.count += min(size, len(data))
        return data[:size]


def unpack(file: PiecesFile, folder: str, old: str, new: str) -> list[str]:
    """Unpack a tar below `folder`, its top entry `old` under the name `new`.

    Owners are ours; modes and times are the archive's. Returns the names that were left out:
    devices, which a container could plant. Raises Exit for what may not be overwritten, and for
    archives that are broken or try to get out.
    """
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    unpacker = _Unpacker(root, folder)
    try:
        with tarfile.open(fileobj=_readable(file), mode="r|") as archive:
            for member in archive:
                member.name = renamed(member.name, old, new)
                if member.islnk():
                    member.linkname = renamed(member.linkname, old, new)
                unpacker.entry(archive, member)
        unpacker.finish()
    except tarfile.TarError as error:
        raise Exit(1, f"the archive is broken: {error}") from None
    finally:
        os.close(root)
    return unpacker.left_out


def _readable(file: PiecesFile) -> IO[bytes]:
    return file  # type: ignore[return-value]


def parts_of(name: str) -> list[str]:
    """Split an entry's name. Raises Exit if it leads upwards."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Exit(1, f"the archive has a name that leads out of it: {name}")
    return parts


class _Unpacker:
    def __init__(self, root: int, folder: str) -> None:
        self._root = root
        self._folder = folder
        self._folders: list[tuple[list[str], tarfile.TarInfo]] = []
        self.left_out: list[str] = []

    def _parent(self, parts: list[str]) -> int:
        """Open the directory of an entry, making what is missing; the caller closes it."""
        descriptor = os.dup(self._root)
        for part in parts[:-1]:
            try:
                try:
                    child = os.open(part, _FOLDER, dir_fd=descriptor)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=descriptor)
                    child = os.open(part, _FOLDER, dir_fd=descriptor)
            except OSError as error:
                raise Exit(
                    1, f"cannot unpack {'/'.join(parts)}: {part}: {(error.strerror or '').lower()}"
                ) from None
            finally:
                os.close(descriptor)
            descriptor = child
        return descriptor

    def entry(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = parts_of(member.name)
        if not parts:
            return  # the directory that is unpacked into keeps its own mode
        parent = self._parent(parts)
        try:
            self._make_room(parent, parts, member)
            if member.isdir():
                self._make_folder(parent, parts, member)
            elif member.issym():
                os.symlink(member.linkname, parts[-1], dir_fd=parent)
            elif member.islnk():
                self._link(parent, parts[-1], member)
            elif member.isfile():
                self._make_file(archive, parent, parts[-1], member)
            elif member.isfifo():
                os.mkfifo(parts[-1], member.mode & 0o777, dir_fd=parent)
            else:
                self.left_out.append(member.name)
        except OSError as error:
            raise Exit(
                1, f"cannot unpack {'/'.join(parts)}: {(error.strerror or str(error)).lower()}"
            ) from None
        finally:
            os.close(parent)

    def _make_room(self, parent: int, parts: list[str], member: tarfile.TarInfo) -> None:
        try:
            mode = os.lstat(parts[-1], dir_fd=parent).st_mode
        except FileNotFoundError:
            return
        path = f"{self._folder.rstrip('/')}/{'/'.join(parts)}"
        if stat.S_ISDIR(mode) and not member.isdir():
            raise Exit(
                1, f'cannot overwrite directory "{path}" with non-directory "{self._folder}"'
            )
        if not stat.S_ISDIR(mode) and member.isdir():
            raise Exit(
                1, f'cannot overwrite non-directory "{path}" with directory "{self._folder}"'
            )
        if not stat.S_ISDIR(mode):
            os.unlink(parts[-1], dir_fd=parent)

    def _make_folder(self, parent: int, parts: list[str], member: tarfile.TarInfo) -> None:
        try:
            os.mkdir(parts[-1], 0o700, dir_fd=parent)
        except FileExistsError:
            pass
        self._folders.append((parts, member))

    def _link(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        target = parts_of(member.linkname)
        source = self._parent(target)
        try:
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _make_file(
        self, archive: tarfile.TarFile, parent: int, name: str, member: tarfile.TarInfo
    ) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        content = archive.extractfile(member)
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            while content is not None and (piece := content.read(COPY_BYTES)):
                file.write(piece)
            os.fchmod(descriptor, member.mode & 0o7777)
            os.utime(descriptor, (member.mtime, member.mtime))

    def finish(self) -> None:
        """Set modes and times of the directories, the deepest first: nothing changes them now."""
        for parts, member in reversed(self._folders):
            parent = self._parent(parts)
            try:
                descriptor = os.open(parts[-1], _FOLDER, dir_fd=parent)
            except OSError:
                continue  # a later entry took its place
            finally:
                os.close(parent)
            try:
                os.fchmod(descriptor, member.mode & 0o7777)
                os.utime(descriptor, (member.mtime, member.mtime))
            finally:
                os.close(descriptor)
