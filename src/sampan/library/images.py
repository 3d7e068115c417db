"""Images, for users of the library."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import BinaryIO

from sampan.distribution.credentials import Credentials
from sampan.engine.blocking import blocking
from sampan.library.calls import Calls
from sampan.spec.docker.images import ImageInspect, ImageSummary
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference

log = logging.getLogger(__name__)
Source = str | os.PathLike[str] | bytes | BinaryIO
CHUNK = 1 << 20


class LibraryImages:
    """`engine.images`; an image is named by a reference, an id, or the beginning of an id."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def import_(self, archive: Source, reference: str = "", *, changes: Sequence[str] = ()) -> str:
        """Make an image of a root file system (tar, plain or compressed); return its id.

        `archive` is a path, the bytes, or an open file. `changes` are Dockerfile instructions
        (`CMD`, `ENV`, …).
        """
        name = Reference.parse(reference) if reference else None
        images = self._calls.engine.images
        return self._calls.call(images.import_(blocks(archive), name, changes=changes))

    def load(self, archive: Source) -> list[str]:
        """Add the images of a Docker archive or an OCI layout; return what was said of each."""

        async def load() -> list[str]:
            messages = self._calls.engine.images.load(blocks(archive))
            return [each.stream.strip() async for each in messages if each.stream]

        return self._calls.call(load())

    def save(self, names: str | Sequence[str], target: str | os.PathLike[str] | BinaryIO) -> None:
        """Write images as an archive that `load` and Docker read."""
        wanted = [names] if isinstance(names, str) else list(names)

        async def save() -> None:
            if isinstance(target, str | os.PathLike):
                with open(target, "wb") as file:  # noqa: ASYNC230 - the loop has no other user
                    async for block in self._calls.engine.images.save(wanted):
                        await blocking(file.write, block)
                return
            async for block in self._calls.engine.images.save(wanted):
                await blocking(target.write, block)

        self._calls.call(save())

    def pull(
        self, reference: str, *, platform: str = "", credentials: Credentials | None = None
    ) -> ImageInspect:
        """Fetch an image from its registry; return what is known of it.

        Raises NotFound, Unauthorized, Upstream (the registry fails, or cannot be reached).
        """
        name = Reference.parse(reference).with_default_tag()
        wanted = Platform.parse(platform) if platform else None
        images = self._calls.engine.images

        async def pull() -> ImageInspect:
            async for message in images.pull(name, platform=wanted, credentials=credentials):
                log.debug("%s %s", message.id, message.status)
            return await images.inspect(name.familiar)

        return self._calls.call(pull())

    def push(
        self, reference: str, *, platform: str = "", credentials: Credentials | None = None
    ) -> str:
        """Send an image to its registry; return the digest that it has there."""
        name = Reference.parse(reference).with_default_tag()
        wanted = Platform.parse(platform) if platform else None
        images = self._calls.engine.images

        async def push() -> str:
            digest = ""
            async for message in images.push(name, platform=wanted, credentials=credentials):
                if message.aux and "Digest" in message.aux:
                    digest = message.aux["Digest"]
            return digest

        return self._calls.call(push())

    def list(
        self, *, all: bool = False, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[ImageSummary]:
        """Return what `docker images` shows."""
        return self._calls.call(self._calls.engine.images.summaries(filters or {}, all=all))

    def inspect(self, name: str) -> ImageInspect:
        """Return all that is known of an image; raises NotFound."""
        return self._calls.call(self._calls.engine.images.inspect(name))

    def tag(self, name: str, repository: str, tag: str = "") -> None:
        """Give an image another name."""
        self._calls.call(self._calls.engine.images.tag(name, repository, tag))

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a name of an image, and the image with its last one."""
        self._calls.call(self._calls.engine.images.remove(name, force=force))


async def blocks(source: Source) -> AsyncIterator[bytes]:
    """Yield a file, or bytes, in blocks."""
    if isinstance(source, bytes):
        yield source
    elif isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:  # noqa: ASYNC230 - opening waits for nobody
            while block := await blocking(file.read, CHUNK):
                yield block
    else:
        while block := await blocking(source.read, CHUNK):
            yield block
