"""Where copies take their files from: the context, other stages, images, the web.

Source: moby daemon/builder/dockerfile/copy.go; buildkit source/http (names of downloads).
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final
from urllib.parse import unquote, urlsplit

from sampan.build.attesting.materials import Materials
from sampan.build.contexts.git import is_repository, repository_of
from sampan.build.contexts.main_context import MainContext
from sampan.build.files.places import locate
from sampan.build.files.selecting import Chosen, choose, is_wild
from sampan.build.files.tree import File, Spool, Tree
from sampan.build.instructions.wanted import Wanted
from sampan.build.worker import Worker
from sampan.errors import InvalidArgument, NotFound
from sampan.http.urls import redacted
from sampan.spec.digest import parse_digest
from sampan.storage.archives.compression import plain_chunks
from sampan.storage.archives.tar_fields import REGULAR
from sampan.storage.archives.tar_reader import TarReader

_URL: Final = ("http://", "https://")
_LIKE_A_PATH: Final = "github.com/"  # a repository as a context alone
_READ: Final = 1 << 18


class Sources:
    """The sources of one build; what was fetched once is not fetched again."""

    def __init__(self, worker: Worker, spool: Spool, materials: Materials | None = None) -> None:
        self._worker, self._spool = worker, spool
        self._materials = materials or Materials()
        self._packed: dict[tuple[str, str], Tree] = {}

    async def choose(self, source: str, wanted: Wanted, context: MainContext) -> Sequence[Chosen]:
        """Return what a source means. Raises NotFound for what is not there."""
        it = wanted.instruction
        if wanted.checksum and len(wanted.sources) != 1:
            raise InvalidArgument("checksum can't be specified for multiple sources")
        if is_repository(source) and not source.startswith(_LIKE_A_PATH):
            if not it.add:
                raise InvalidArgument("source can't be a git ref for COPY")
            return [await self._repository(source, wanted)]
        if source.startswith(_URL):
            if not it.add:
                raise InvalidArgument("source can't be a URL for COPY")
            return [await self._download(source, wanted)]
        if wanted.checksum:
            raise InvalidArgument("checksum requires HTTP(S) or Git sources")
        if it.origin:
            found = choose(await self.part(wanted.origin, source), source, parents=it.parents)
            return [
                Chosen(one.name, one.file, one.spool, one.contents, one.above, foreign=True)
                for one in found
            ]
        if posixpath.normpath(source.lstrip("/") or ".").startswith(".."):
            raise InvalidArgument(
                f"{wanted.name} failed: forbidden path outside the build context: {source} ()"
            )
        found = choose(await context.files(), source, parents=it.parents)
        if not it.add or it.unpack is False:
            return found
        return [await self._worker.call(partial(self._unpacked, one)) for one in found]

    # --- other states ----------------------------------------------------------------------

    async def part(self, chain: str, source: str) -> Tree:
        """Return a tree that has at least what `source` means in a state. NotFound."""
        clean = posixpath.normpath("/" + source)
        fixed: list[str] = []
        for part in clean.strip("/").split("/"):
            if is_wild(part):
                break
            fixed.append(part)
        start = "/" + "/".join(fixed)
        if not chain:
            raise NotFound(f"{source}: file does not exist")
        place = await locate(self._worker, chain, start)
        if not place.exists:
            raise NotFound("file does not exist")
        real = place.path.decode("utf-8", "surrogateescape")
        tree = self._packed.get((chain, real)) or await self._pack(chain, real, start)
        self._packed[chain, real] = tree
        return tree

    async def _pack(self, chain: str, real: str, start: str) -> Tree:
        """Read a path of a state; it is under its own name, links on the way are resolved."""
        tree = Tree(self._spool)

        def read(fd: int) -> None:
            with self._spool.lock:
                tree.read(_chunks(fd))

        await self._worker.pack(chain, f"/{real}" if real else "", read)
        name = posixpath.basename(real).encode("utf-8", "surrogateescape")
        result = Tree(self._spool)
        if not real:
            result.root = tree.root
            return result
        result.graft(start.encode("utf-8", "surrogateescape"), tree.find(name))
        return result

    # --- archives and the web --------------------------------------------------------------

    def _unpacked(self, chosen: Chosen) -> Chosen:
        """Return what is in a file that is an archive, else the file itself."""
        if chosen.contents or chosen.file.kind != REGULAR or not chosen.file.stored:
            return chosen

        def chunks() -> Iterator[bytes]:
            pieces = chosen.spool.pieces(chosen.file)
            rest = bytearray()

            def take(size: int) -> bytes:
                while not rest and (piece := next(pieces, b"")):
                    rest.extend(piece)
                data = bytes(rest[:size])
                del rest[:size]
                return data

            return plain_chunks(take)

        try:
            is_archive = next(iter(TarReader(chunks())), None) is not None
        except InvalidArgument:
            is_archive = False
        if not is_archive:
            return chosen
        tree = Tree(self._spool)
        with self._spool.lock:
            tree.read(chunks())
        return Chosen(b"", tree.root, self._spool, contents=True, foreign=True)

    async def _repository(self, address: str, wanted: Wanted) -> Chosen:
        meant = repository_of(address, wanted.instruction.keep_git_dir, wanted.checksum)
        tree = Tree(self._spool)

        def read(fd: int) -> None:
            with self._spool.lock:
                tree.read(_chunks(fd))

        await self._worker.repository(meant, read)
        return Chosen(b"", tree.root, self._spool, contents=True)

    async def _download(self, url: str, wanted: Wanted) -> Chosen:
        checksum = parse_digest(wanted.checksum) if wanted.checksum else ""
        if checksum and not checksum.startswith("sha256:"):
            raise InvalidArgument("unsupported digest algorithm")
        name = posixpath.basename(unquote(urlsplit(url).path)).encode()
        if not name and wanted.destination.endswith("/"):
            raise InvalidArgument(f"cannot determine filename from url: {redacted(url)}")
        file = File(REGULAR, 0o600)

        def read(fd: int) -> None:
            digest = hashlib.sha256()

            def pieces() -> Iterator[bytes]:
                for piece in _chunks(fd):
                    digest.update(piece)
                    yield piece

            with self._spool.lock:
                file.at, file.stored, file.digest = self._spool.add(pieces())
                self._spool.flush()
            file.size = file.stored

        await self._worker.download(url, read)
        if checksum and checksum != f"sha256:{file.digest.hex()}":
            raise InvalidArgument(
                f"digest mismatch {redacted(url)}: sha256:{file.digest.hex()}"
                f" (expected: {checksum})"
            )
        self._materials.pages[url] = f"sha256:{file.digest.hex()}"
        chosen = Chosen(name or b"download", file, self._spool)
        if wanted.instruction.unpack:
            return await self._worker.call(partial(self._unpacked, chosen))
        return chosen


def _chunks(fd: int) -> Iterator[bytes]:
    while data := os.read(fd, _READ):
        yield data
