"""Layers that copies make: lists of what they put where, their digests, and their archives."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sampan.build.files.tree import File, Spool
from sampan.errors import InvalidArgument
from sampan.spec.image import WHITEOUT
from sampan.storage.archives.tar_fields import HARDLINK, REGULAR, Entry
from sampan.storage.archives.tar_writer import TarWriter

_SMALL: Final = 256 << 10  # bytes of a content that is copied instead of sent


@dataclass(frozen=True, slots=True)
class Item:
    """A file and where it goes."""

    path: bytes  # relative to the root, without links
    file: File
    spool: Spool | None = None  # where its content is
    mode: int | None = None  # other ones than the file's
    owner: tuple[int, int] | None = None


def digest_items(items: Sequence[Item]) -> bytes:
    """Return a digest of all that a copy writes; times are no part of it."""
    digest = hashlib.sha256()
    for item in items:
        file = item.file
        mode = file.mode if item.mode is None else item.mode
        uid, gid = item.owner or (file.uid, file.gid)
        fields = [
            item.path, file.kind, b"%o %d %d %d" % (mode, uid, gid, file.size), file.digest,
            file.link, b"%d %d" % file.device, repr(file.sparse).encode(),
            *(part for name in sorted(file.xattrs)
              for part in (os.fsencode(name), file.xattrs[name])),
        ]  # fmt: skip
        digest.update(b"".join(b"%d:%s" % (len(part), part) for part in fields) + b"\n")
    return digest.digest()


def write_layer(
    items: Sequence[Item], into: int, epoch: int | None = None, *, whiteouts: bool = False
) -> None:
    """Write the archive of a layer to a pipe; no time in it is later than `epoch` (seconds).

    Names that mean removed files are refused, unless `whiteouts` says that they mean just that.
    """

    def write(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(into, rest) :]

    writer = TarWriter(write)
    links: dict[tuple[int, object, object], bytes] = {}
    for item in items:
        if not whiteouts and any(part.startswith(WHITEOUT) for part in item.path.split(b"/")):
            raise InvalidArgument(
                f"{os.fsdecode(item.path)}: names that begin with .wh. mean removed files in layers"
            )
        entry = _entry(item, epoch)
        if item.file.kind == REGULAR:
            first = links.setdefault((id(item.file), item.mode, item.owner), item.path)
            if first != item.path:
                entry.kind, entry.link, entry.size = HARDLINK, first, 0
        writer.header(entry)
        if entry.size:
            _content(item, writer, into)
            writer.pad(entry.size)
    writer.close()


def _entry(item: Item, epoch: int | None) -> Entry:
    file = item.file
    uid, gid = item.owner or (file.uid, file.gid)
    mtime = file.mtime
    if epoch is not None:
        # Storage drivers differ in the times that they give to removed files.
        removed = posixpath.basename(item.path).startswith(WHITEOUT)
        mtime = epoch * 10**9 if removed else min(mtime, epoch * 10**9)
    return Entry(
        item.path + (b"/" if file.is_folder else b""),
        file.kind,
        file.mode if item.mode is None else item.mode,
        uid,
        gid,
        file.size if file.kind == REGULAR else 0,
        mtime,
        file.link,
        *file.device,
        xattrs=file.xattrs,
    )


def _content(item: Item, writer: TarWriter, into: int) -> None:
    """Write what is stored of a file, and zeros where a sparse one has nothing."""
    file, spool = item.file, item.spool
    if spool is None:
        raise InvalidArgument("a file has no content")
    if file.sparse is None and file.stored > _SMALL:
        writer.flush()
        _send(spool.fd, file.at, file.stored, into)
        return
    for piece in spool.whole(file, _SMALL):
        writer.raw(piece)


def _send(fd: int, at: int, left: int, into: int) -> None:
    while left:
        sent = os.sendfile(into, fd, at, left)
        if not sent:
            raise InvalidArgument("the content of a file has become shorter")
        at, left = at + sent, left - sent
