"""Archives of images coming in, in one pass.

An archive names its images at its end (manifest.json, index.json), after the layers that they are
made of. So what looks like a layer is unpacked as it comes, and is a staged layer by the time
that an image asks for it. Everything else goes to a file without a name on the store's disk,
because it may be asked for in any order: documents, and what cannot be told for a layer by its
first bytes. Where layers cannot be unpacked before their parents, layers go there, too.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sampan.engine.images.feeding import wide_pipe
from sampan.engine.images.layers import Layers
from sampan.engine.images.model import Staged
from sampan.errors import InvalidArgument, SampanError
from sampan.spec.digest import Digest
from sampan.storage.archives.compression import kind_of, plain_chunks, reader_of
from sampan.storage.archives.intake import KEPT
from sampan.storage.archives.tar_fields import HARDLINK, REGULAR, SYMLINK, Entry
from sampan.storage.archives.tar_reader import TarReader
from sampan.storage.content import ContentStore, Writer, write_all
from sampan.storage.layers.members import entry_parts

T = TypeVar("T")
Advance = Callable[[str, int, int], None]  # name, bytes that are here, bytes of all

_AT_ONCE: Final = 2  # layers that are unpacked: the next one while the last is written to disk
_LINKS: Final = 16
_MEMBERS: Final = 200_000
_NAMES: Final = 16 << 20  # bytes of all names and of what links lead to
_HEAD: Final = 512  # bytes that tell a layer
_TELL: Final = 0.1  # seconds between two reports of one layer
_BLOB: Final = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]{64}|[0-9a-f]{128})")
_BARE: Final = re.compile(r"([0-9a-f]{64})(?:\.tar)?")  # as skopeo and podman write layers


@dataclass(slots=True)
class Part:
    """A regular file in an archive: in the file beside it, or unpacked as a layer."""

    name: str
    size: int
    offset: int = 0  # in the file, unless it was unpacked
    digest: Digest | None = None  # that its name claims
    staged: Staged | None = None
    known: str = ""  # diff id of a layer that was here before: it was not read
    error: SampanError | None = None  # why it could not be unpacked
    blob: Digest | None = None  # its archive in the content store, if that is worth keeping
    media_type: str = ""

    @property
    def is_layer(self) -> bool:
        """It is not in the file."""
        return bool(self.staged or self.known or self.error)


@dataclass(slots=True)
class Parts:
    """The regular files of an archive, by name; links inside the archive are followed."""

    files: dict[str, Part] = field(default_factory=dict)
    layers: list[Part] = field(default_factory=list)  # all that were unpacked
    links: dict[str, str] = field(default_factory=dict)

    def find(self, name: str) -> Part | None:
        """Return a file; a name that climbs out of the archive stays inside it."""
        name = _normal(name)
        for _ in range(_LINKS):
            if name not in self.links:
                return self.files.get(name)
            name = self.links[name]
        return None


class Receiving:
    """One archive coming in. `run` belongs to a thread of its own, all else to the loop.

    `spool` is where parts go that are not unpacked; with `eager` layers are unpacked as they come.
    """

    def __init__(
        self, content: ContentStore, layers: Layers, spool: int, *, eager: bool, advance: Advance
    ) -> None:
        self._content, self._layers, self._spool = content, layers, spool
        self._eager, self._advance = eager, advance
        self._loop = asyncio.get_running_loop()
        self._parts = Parts()
        self._end = 0  # of the spool
        self._names = 0  # bytes
        self.wanted: list[str] = []  # layers that were here before, and stay meanwhile
        self._running: dict[Future[Staged], Part] = {}

    def run(self, fd: int) -> Parts:
        """Read an archive (any compression) from a pipe to its end."""
        reader = TarReader(plain_chunks(reader_of(fd)))
        try:
            for entry in reader:
                self._entry(entry, reader)
            reader.drain()
        except InvalidArgument as error:
            raise InvalidArgument(f"invalid archive: {error}") from error
        finally:
            self._settle(0)
        return self._parts

    def _entry(self, entry: Entry, reader: TarReader) -> None:
        name = "/".join(map(os.fsdecode, entry_parts(entry.name)))
        parts = self._parts
        self._names += len(entry.name) + len(entry.link)
        if self._names > _NAMES:
            raise InvalidArgument("too many members")
        if entry.kind == REGULAR and entry.sparse is None:
            parts.files[name] = self._file(name, entry.size, reader)
            parts.links.pop(name, None)
        elif entry.kind == SYMLINK:
            target = posixpath.join(posixpath.dirname(name), os.fsdecode(entry.link))
            parts.links[name] = _normal(target)
        elif entry.kind == HARDLINK:
            parts.links[name] = _normal(os.fsdecode(entry.link))
        if len(parts.files) + len(parts.links) > _MEMBERS:
            raise InvalidArgument("too many members")

    def _file(self, name: str, size: int, reader: TarReader) -> Part:
        part = Part(name, size, digest=_claimed(name))
        data = reader.data()
        head = _head(data)
        kind = kind_of(head)
        if not self._eager or not (kind or head[257:262] == b"ustar"):
            self._store(part, head, data)
        elif part.digest and (known := self._ask(self._layers.want_known(part.digest)).result()):
            part.known = known
            self.wanted.append(known)
        else:
            if kind and not name.startswith("blobs/"):
                part.digest = None  # what is named by a digest there is not the archive
            self._unpack(part, head, data, KEPT.get(kind, ""))
        return part

    def _store(self, part: Part, head: bytes, data: Iterator[memoryview]) -> None:
        part.offset = self._end
        write_all(self._spool, head)
        for piece in data:
            write_all(self._spool, piece)
        self._end += part.size

    # --- layers ----------------------------------------------------------------------------

    def _unpack(self, part: Part, head: bytes, data: Iterator[memoryview], media_type: str) -> None:
        """Have a layer unpacked while it comes; keep its archive if that has a media type."""
        self._parts.layers.append(part)
        self._settle(_AT_ONCE - 1)
        read, write = wide_pipe()
        with ExitStack() as undo:
            undo.callback(os.close, write)
            staging = self._ask(self._layers.stage(read, part.digest))
            # As long as we hold the reading end, a helper that stopped would not stop us.
            staging.add_done_callback(lambda _: os.close(read))
            self._running[staging] = part
            try:
                writer = None
                if media_type:
                    algorithm = part.digest.partition(":")[0] if part.digest else "sha256"
                    writer = undo.enter_context(self._content.writer(algorithm))
                self._copy(part, head, data, write, writer)
                if writer:
                    part.blob, part.media_type = writer.commit(part.digest), media_type
            except BaseException:
                undo.close()  # the pipe first: then the helper ends
                self._abandon(staging)
                raise

    def _copy(
        self, part: Part, head: bytes, data: Iterator[memoryview], write: int, writer: Writer | None
    ) -> None:
        done, told, listening = 0, time.monotonic(), True
        self._advance(part.name, 0, part.size)
        for piece in _chain(head, data):
            if writer:
                writer.write(piece)
            if listening:
                try:
                    write_all(write, piece)
                except BrokenPipeError:  # its error is raised when an image asks for the layer
                    listening = False
            done += len(piece)
            if (now := time.monotonic()) - told > _TELL:
                told = now
                self._advance(part.name, done, part.size)
        self._advance(part.name, part.size, part.size)

    def _settle(self, left: int) -> None:
        """Wait until no more than `left` layers are being unpacked."""
        while len(self._running) > left:
            staging = next(iter(self._running))
            part = self._running.pop(staging)
            try:
                part.staged = staging.result()
            except SampanError as error:
                part.error = error

    def _abandon(self, staging: Future[Staged]) -> None:
        """Leave nothing of a layer that did not come whole."""
        self._running.pop(staging, None)
        wait([staging])
        if not staging.cancelled() and staging.exception() is None:
            with suppress(SampanError):  # else the collection at the end takes it
                self._ask(self._layers.discard(staging.result())).result()

    def _ask(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(call, self._loop)


def _head(data: Iterator[memoryview]) -> bytes:
    head = b""
    for piece in data:
        head += piece
        if len(head) >= _HEAD:
            break
    return head


def _chain(head: bytes, data: Iterator[memoryview]) -> Iterator[bytes | memoryview]:
    yield head
    yield from data


def _claimed(name: str) -> Digest | None:
    if match := _BLOB.fullmatch(name):
        return Digest(f"{match[1]}:{match[2]}")
    if match := _BARE.fullmatch(name):
        return Digest(f"sha256:{match[1]}")
    return None


def _normal(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")
