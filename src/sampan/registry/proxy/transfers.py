"""Blobs on their way from an upstream: each comes once, whoever wants it, and is read as it comes.

The bytes go into an upload of the repository, which is verified and becomes its blob at the end.
Clients read behind; the last piece is held back from them until the digest is known to be right.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from io import FileIO
from typing import Any, TypeVar

from sampan.registry import paths
from sampan.registry.content.fullness import UnlessAway
from sampan.registry.content.receivers import Receiver
from sampan.registry.drivers.driver import Content
from sampan.registry.errors import RegistryError
from sampan.registry.proxy.eviction import Eviction
from sampan.registry.proxy.overflow import Overflow, Places, Reader
from sampan.registry.proxy.upstreams import Place
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest, algorithm

log = logging.getLogger(__name__)
T = TypeVar("T")
HELD_BACK = 64 << 10  # bytes at the end that nobody gets before all is verified
STORING_SECONDS = 1.0  # that readers wait at the end, so that what they got is here as a rule
AT_ONCE = 32  # transfers from one upstream; each has a thread and a connection

Fetch = Callable[[Callable[[memoryview], None], Callable[[int], None]], Awaitable[None]]
"""Gives the bytes of a blob to the first, tells the second how many they were."""


class Spool:
    """A copy of what comes in, where the storage gives nothing back before the end."""

    def __init__(self, folder: str) -> None:
        file: Any = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 see close
        self._file: FileIO = file

    def write(self, data: bytes) -> None:
        self._file.seek(0, 2)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def read(self, offset: int, count: int) -> bytes:
        return os.pread(self._file.fileno(), count, offset)

    def close(self) -> None:
        self._file.close()


@dataclass
class _Open:
    """What a transfer writes into, and where it is read."""

    reader: Reader
    spool: Spool | None
    key: str = ""
    receiver: Receiver | None = None  # None: it is passed on and not kept
    overflow: Overflow | None = None  # once no disk takes more


class Transfer:
    """One blob that comes. Those who read it say where they are by `move`, and `leave`."""

    def __init__(self, place: Place, digest: Digest, size: int, keeps: bool = True) -> None:
        """`keeps`: our own storage is to have it, too, if it takes it."""
        self.place = place
        self.digest = digest
        self.size = size
        self.error: Exception | None = None
        self.keeps = keeps
        self._meaning = f"blob {digest} of {place.repository} is passed on and not kept"
        self._received = 0
        self._taken = 0  # bytes that are stored
        self._done = False
        self._readers: set[Hashable] = {self}
        self._places = Places()
        self._opened: _Open | None = None
        self._news = asyncio.Event()

    async def ready(self, end: int) -> None:
        """Return when the bytes up to `end` can be read. Raises what ended the transfer."""
        while self.error is None and self._readable < end:
            await self._news.wait()
        if self.error is not None:
            raise self.error

    @property
    def _readable(self) -> int:
        return self.size if self._done else min(self._received, self.size - HELD_BACK)

    def read(self, offset: int, count: int) -> bytes:
        """Return bytes that are ready; in a thread."""
        assert self._opened is not None
        return self._opened.reader.read(offset, count)

    @property
    def overflows(self) -> bool:
        """No disk takes what comes, so it can be read only once."""
        return self._opened is not None and self._opened.overflow is not None

    def move(self, reader: Hashable, offset: int) -> None:
        """Keep what was received readable, from an offset on."""
        self._readers.add(reader)
        self._places.move(reader, offset)

    def leave(self, reader: Hashable) -> None:
        """Have read enough."""
        self._readers.discard(reader)
        self._places.leave(reader)
        if not self._readers and self._opened is not None:
            self._opened.reader.close()
            self._opened = None

    def _tell(self) -> None:
        self._news, news = asyncio.Event(), self._news
        news.set()

    async def run(
        self, registry: Registry, threads: Executor, fetch: Fetch, eviction: Eviction
    ) -> None:
        """Bring the blob. What goes wrong is kept for those who wait."""
        loop = asyncio.get_running_loop()
        name, granted = self.place.repository, False

        async def call(function: Callable[..., T], *arguments: Any) -> T:
            return await loop.run_in_executor(threads, function, *arguments)

        try:
            if self.keeps:
                with UnlessAway(self._meaning):
                    granted = await call(eviction.make_room, name, self.size)
                self.keeps = granted
            opened = await self._begin(registry, call)
            await self._bring(registry, opened, call, fetch)
        except asyncio.CancelledError:
            self.error = OSError("the registry ends")
            raise
        except Exception as error:  # noqa: BLE001 told to everybody who waits
            self.error = error
            log.warning("blob %s of %s did not come: %s", self.digest, self.place.repository, error)
        finally:
            self._tell()
            self.leave(self)
            if granted and eviction.limits:
                kept = self._done and self.keeps
                await asyncio.shield(call(eviction.came, name, self.size, kept))

    async def _begin(self, registry: Registry, call: Callable[..., Awaitable[Any]]) -> _Open:
        """Open what is written to; what is opened while all ends is not left."""
        opening: asyncio.Future[_Open] = asyncio.ensure_future(call(self._open, registry))
        try:
            self._opened = opened = await asyncio.shield(opening)
        except asyncio.CancelledError:
            with suppress(Exception):
                self._opened = opened = await opening
                await call(self._undo, registry, opened)
            raise
        return opened

    async def _bring(
        self,
        registry: Registry,
        opened: _Open,
        call: Callable[..., Awaitable[Any]],
        fetch: Fetch,
    ) -> None:
        loop = asyncio.get_running_loop()
        uploads, name = registry.uploads, self.place.repository

        def advance(count: int) -> None:
            loop.call_soon_threadsafe(self._advance, count)

        try:
            await fetch(lambda view: self._take(opened, bytes(view)), advance)
            if opened.receiver and self.keeps:
                finish = partial(uploads.finish, name, opened.key, self.digest, opened.receiver)
                with UnlessAway(self._meaning) as storage:
                    await self._unless_slow(asyncio.ensure_future(call(finish)))
                self.keeps = not storage.failed
            self._end()
            if not self.keeps:
                await asyncio.shield(call(self._undo, registry, opened))
        except BaseException:
            await asyncio.shield(call(self._undo, registry, opened))
            raise

    def _take(self, opened: _Open, data: bytes) -> None:
        """Store what has come, or let it wait for those who read."""
        if self.keeps and opened.receiver:
            with UnlessAway(self._meaning) as storage:
                opened.receiver.write(data)
            self.keeps = not storage.failed
        if opened.overflow is None:
            with UnlessAway("it waits in memory"):
                if opened.spool:
                    opened.spool.write(data)
                if opened.spool or self.keeps:
                    self._taken += len(data)
                    return
            opened.overflow = opened.reader = Overflow(opened.reader, self._taken, self._places)
        opened.overflow.write(data)

    async def _unless_slow(self, finishing: asyncio.Future[None]) -> None:
        """Wait for the storage; those who read do not, for what came has the right digest."""
        try:
            done, _ = await asyncio.wait([finishing], timeout=STORING_SECONDS)
            if not done:
                self._end()
            await finishing
        finally:
            finishing.cancel()

    def _end(self) -> None:
        """Let all of it be read: its digest is right."""
        self._done = True
        self._tell()

    def _advance(self, count: int) -> None:
        self._received += count
        self._tell()

    def _open(self, registry: Registry) -> _Open:
        if self.keeps:
            try:
                with UnlessAway(self._meaning):
                    return self._upload(registry)
            except RegistryError as error:
                if error.items[0].code not in ("DENIED", "TOOMANYREQUESTS"):
                    raise
                # somebody else has taken the room that was made
        self.keeps = False
        log.info("%s", self._meaning)
        with UnlessAway("it waits in memory"):
            spool = Spool(str(registry.own_folder))
            return _Open(spool, spool)
        overflow = Overflow(None, 0, self._places)
        return _Open(overflow, None, overflow=overflow)

    def _upload(self, registry: Registry) -> _Open:
        name = self.place.repository
        key = registry.uploads.start(name, algorithm(self.digest), self.digest)
        with ExitStack() as undo:
            undo.callback(registry.uploads.cancel, name, key)
            receiver = registry.uploads.receive(name, key, None, self.size, self.digest)
            undo.callback(receiver.close)
            reader, spool = self._reader(registry, f"{paths.upload(name, key)}/data")
            undo.pop_all()
        return _Open(reader, spool, key, receiver)

    def _reader(self, registry: Registry, path: str) -> tuple[Reader, Spool | None]:
        content: Content | None = None
        try:
            content = registry.driver.open(path)
        except FileNotFoundError:
            pass
        if content is not None and content.local:  # a file of this machine is read as it grows
            return content, None
        if content is not None:
            content.close()
        spool = Spool(str(registry.own_folder))
        return spool, spool

    def _undo(self, registry: Registry, opened: _Open) -> None:
        """Throw away what came; the storage may fail at that too, and a purge finds it later."""
        name = self.place.repository
        if opened.receiver is None:
            return
        try:
            opened.receiver.close()
            registry.uploads.cancel(name, opened.key)
        except Exception as error:  # noqa: BLE001 there is a better one to tell
            log.info("upload %s of %s is left: %s", opened.key, name, error)
