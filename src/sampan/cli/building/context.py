"""The build context as it is sent: a folder without what `.dockerignore` means, as a tar.

Source: docker/cli cli/command/image/build/context.go (what is sent, and the messages).
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager

from sampan.build.contexts.ignore import Ignore, read_ignore
from sampan.cli.invocation import Exit
from sampan.storage.archives.compression import kind_of
from sampan.storage.archives.tar_fields import DIRECTORY, FIFO, REGULAR, SYMLINK, Entry
from sampan.storage.archives.tar_writer import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_READ = 256 << 10
_KINDS = {
    stat.S_IFREG: REGULAR,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
}
_URLS = ("http://", "https://", "git://", "github.com/", "git@")


class Context:
    """What a build begins with; `remote` is an address that the daemon fetches itself."""

    def __init__(self, dockerfile: str = "Dockerfile", remote: str = "") -> None:
        self.dockerfile, self.remote = dockerfile, remote

    def pieces(self) -> Iterator[bytes]:
        """Yield the archive; none for what is remote."""
        return iter(())

    def recipe(self) -> Iterator[bytes]:
        """Yield an archive for questions about the Dockerfile: with as little else as may be."""
        return self.pieces()

    def compressed(self) -> Iterator[bytes]:
        """Yield the archive as gzip."""
        import zlib

        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        for piece in self.pieces():
            if data := packer.compress(piece):
                yield data
        yield packer.flush()


class _Stream(Context):
    """An archive on standard input."""

    def __init__(self, dockerfile: str, start: bytes) -> None:
        super().__init__(dockerfile)
        self._start = start

    def pieces(self) -> Iterator[bytes]:
        yield self._start
        while piece := os.read(0, _READ):
            yield piece


class _Folder(Context):
    """A folder, or nothing but further files (`extra`: name → content)."""

    def __init__(
        self, dockerfile: str, folder: str, ignore: list[str], extra: dict[str, bytes]
    ) -> None:
        super().__init__(dockerfile)
        self._folder, self._extra = folder, extra
        self._ignore = Ignore(ignore)

    def pieces(self) -> Iterator[bytes]:
        return self._archive(self._walk())

    def recipe(self) -> Iterator[bytes]:
        names = {self.dockerfile, f"{self.dockerfile}.dockerignore", ".dockerignore"}
        found = [
            (name, os.path.join(self._folder, name)) for name in sorted(names - {*self._extra})
        ]
        return self._archive(iter(found))

    def _archive(self, found: Iterator[tuple[str, str]]) -> Iterator[bytes]:
        written: list[bytes] = []
        writer = TarWriter(written.append)
        for name, content in self._extra.items():
            writer.add(Entry(os.fsencode(name), REGULAR, 0o600, 0, 0, len(content), 0, b"", 0, 0),
                       content)  # fmt: skip
        if self._folder:
            for name, path in found:
                for _ in _added(writer, name, path):
                    yield from written
                    written.clear()
                yield from written
                written.clear()
        writer.close()
        yield from written

    def _walk(self) -> Iterator[tuple[str, str]]:
        """Yield what is sent: names in the archive, and paths; folders before what is in them."""
        waiting = [""]
        while waiting:
            above = waiting.pop()
            if above and not self._ignore.hides(above):
                yield above, os.path.join(self._folder, above)
            try:
                entries = sorted(os.scandir(os.path.join(self._folder, above)), key=_name)
            except FileNotFoundError:
                continue  # it has gone meanwhile
            folders = []
            for entry in entries:
                name = os.path.join(above, entry.name)
                if name in self._extra:
                    continue
                hidden = self._ignore.hides(name)
                if entry.is_dir(follow_symlinks=False):
                    if not (hidden and self._ignore.skips(name)):
                        folders.append(name)
                elif not hidden:
                    yield name, entry.path
            waiting += folders[::-1]


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _added(writer: TarWriter, name: str, path: str) -> Iterator[None]:
    """Add a file; whoever drives this takes what is written between the steps."""
    try:
        status = os.lstat(path)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return  # sockets and devices
        link = os.fsencode(os.readlink(path)) if kind == SYMLINK else b""
        size = status.st_size if kind == REGULAR else 0
        mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
        encoded = os.fsencode(name) + (b"/" if kind == DIRECTORY else b"")
        entry = Entry(encoded, kind, mode, 0, 0, size, mtime, link, 0, 0)
        if kind != REGULAR:
            writer.header(entry)
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # it has gone meanwhile
    except PermissionError as error:
        raise Exit(
            1, f"error checking context: no permission to read from '{error.filename}'"
        ) from None
    try:
        yield from writer.adding_file(entry, descriptor)
    finally:
        os.close(descriptor)


def folder_archive(path: str) -> Iterator[bytes]:
    """Return what a further context is sent as: a folder without what its ignore file means."""
    root = os.path.realpath(path)
    return _Folder("", root, _patterns(os.path.join(root, ".dockerignore")), {}).pieces()


@contextmanager
def open_context(source: str, dockerfile: str) -> Iterator[Context]:
    """Return what PATH, URL or - means, with the Dockerfile of `-f`. Raises Exit."""
    if source == "-":
        if dockerfile == "-":
            raise Exit(
                1,
                "invalid argument: can't use stdin for both build context and dockerfile",
            )
        yield _of_stdin(dockerfile)
    elif source.startswith(_URLS) and not os.path.isdir(source):
        yield Context(dockerfile or "Dockerfile", source)
    else:
        yield _of_folder(source, dockerfile)


def _of_stdin(dockerfile: str) -> Context:
    start = b""
    while len(start) < 512 and (piece := os.read(0, 512 - len(start))):
        start += piece
    if kind_of(start) or start[257:262] == b"ustar":
        return _Stream(dockerfile or "Dockerfile", start)
    return _Folder("Dockerfile", "", [], {"Dockerfile": start + _stdin()})


def _stdin() -> bytes:
    pieces = []
    while piece := os.read(0, _READ):
        pieces.append(piece)
    return b"".join(pieces)


def _of_folder(folder: str, dockerfile: str) -> Context:
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise Exit(1, f"unable to prepare context: context must be a directory: {folder}")
        raise Exit(1, f'unable to prepare context: path "{folder}" not found')
    root = os.path.realpath(folder)
    extra: dict[str, bytes] = {}
    beside = os.path.join(root, "Dockerfile")
    if dockerfile == "-":
        name, extra = _hidden_name(), {"": _stdin()}
    else:
        path = _dockerfile(root, dockerfile)
        beside = path
        name = os.path.relpath(path, root)
        if name.startswith(".." + os.sep):
            with open(path, "rb") as file:
                name, extra = _hidden_name(), {"": file.read()}
    patterns = _patterns(f"{beside}.dockerignore", os.path.join(root, ".dockerignore"))
    if extra:
        extra = {name: extra[""]}
        patterns.append(name)  # it is in no copy
        extra[".dockerignore"] = _extended_ignore(root, name)
    kept = [it for it in (".dockerignore", name) if Ignore(patterns).hides(it)]
    return _Folder(name, root, [*patterns, *(f"!{it}" for it in kept)], extra)


def _extended_ignore(root: str, name: str) -> bytes:
    """Return the ignore file with the Dockerfile in it that comes from elsewhere."""
    try:
        with open(os.path.join(root, ".dockerignore"), "rb") as file:
            return file.read() + f"\n{name}\n".encode()
    except FileNotFoundError:
        return f"{name}\n.dockerignore\n".encode()


def _hidden_name() -> str:
    return f".dockerfile.{secrets.token_hex(10)}"


def _dockerfile(root: str, given: str) -> str:
    path = given or os.path.join(root, "Dockerfile")
    if given and not os.path.exists(path) and os.path.exists(os.path.join(root, given)):
        path = os.path.join(root, given)
    if not given and not os.path.lexists(path) and os.path.lexists(path.lower()):
        path = os.path.join(root, "dockerfile")
    if not os.path.exists(path):
        where = os.path.abspath(path)
        raise Exit(
            1,
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path:"
            f" lstat {where}: no such file or directory",
        )
    return os.path.realpath(path)


def _patterns(*paths: str) -> list[str]:
    """Return what is left out: what the first of these files says that is there."""
    for path in paths:
        try:
            with open(path, "rb") as file:
                return read_ignore(file.read())
        except FileNotFoundError:
            continue
    return []
