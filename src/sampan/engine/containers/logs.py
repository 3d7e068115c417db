"""The logs of containers, as their clients read them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import gmtime, strftime
from urllib.parse import quote_plus

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.engine.containers.queries import LogsQuery
from sampan.errors import Conflict, InvalidArgument, Unsupported
from sampan.logs.driver import LogLine
from sampan.logs.reader import LogReader
from sampan.logs.stream import NUMBERS, frame


class Logs:
    """Reads the logs below the data root; it needs no privilege, only the group's right to read."""

    def __init__(self, data_root: Path) -> None:
        self._folder = data_root / "containers"

    def read(self, container: Container, query: LogsQuery) -> tuple[bool, AsyncIterator[bytes]]:
        """Return whether the container has a terminal, and its log in blocks.

        Blocks are Docker's frames, or raw for a terminal. Raises before the first block. With
        `follow` the blocks go on until the container ends. Source: moby daemon/logs.go.
        """
        if not query.stdout and not query.stderr:
            raise InvalidArgument("You must choose at least one stream")
        if container.removing or container.record.dead:
            raise Conflict("can not get logs from container which is dead or marked for removal")
        driver = container.host_config.log_config.type
        if driver not in ("json-file", "local"):
            raise Unsupported("configured logging driver does not support reading")
        streams = [name for name in ("stdout", "stderr") if getattr(query, name)]
        try:
            reader = LogReader(
                self._folder / container.id,
                container.id,
                driver,
                tail=query.tail,
                since=query.since,
                until=query.until,
                streams=streams,
                follow=query.follow and container.running,
            )
        except FileNotFoundError:  # it has never been started
            return container.config.tty, _nothing()
        encoder = _Encoder(query, framed=not container.config.tty)
        return container.config.tty, _blocks(container, reader, encoder)


async def _nothing() -> AsyncIterator[bytes]:
    empty: tuple[bytes, ...] = ()
    for block in empty:
        yield block


async def _blocks(
    container: Container, reader: LogReader, encoder: _Encoder
) -> AsyncIterator[bytes]:
    with reader:
        while True:
            # The log is complete when the end is known: asked before the last read.
            over = reader.fileno() < 0 or container.ended.is_set()
            while lines := await blocking(reader.read):
                yield encoder.encode(lines)
            if over or reader.done:
                return
            await _news(container, reader.fileno())


async def _news(container: Container, descriptor: int) -> None:
    """Wait until the log has changed or the container has ended."""
    loop = asyncio.get_running_loop()
    changed = loop.create_future()

    def notice() -> None:
        loop.remove_reader(descriptor)
        if not changed.done():
            changed.set_result(None)

    loop.add_reader(descriptor, notice)
    ended = asyncio.ensure_future(container.ended.wait())
    try:
        await asyncio.wait((changed, ended), return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(descriptor)
        ended.cancel()
        with suppress(asyncio.CancelledError):
            await ended


class _Encoder:
    """Puts frames, times and attributes around lines."""

    def __init__(self, query: LogsQuery, *, framed: bool) -> None:
        self._times, self._details, self._framed = query.timestamps, query.details, framed
        self._second, self._prefix = -1, ""

    def encode(self, lines: list[LogLine]) -> bytes:
        """Return the bytes that the client gets for some lines."""
        if not self._times and not self._details:
            if not self._framed:
                return b"".join([line.line for line in lines])
            return b"".join([frame(NUMBERS[line.stream], line.line) for line in lines])
        blocks = []
        for line in lines:
            text = line.line
            if self._details:
                text = shown_attributes(line.attributes).encode() + b" " + text
            if self._times:
                text = self._time(line.time) + b" " + text
            blocks.append(frame(NUMBERS[line.stream], text) if self._framed else text)
        return b"".join(blocks)

    def _time(self, nanoseconds: int) -> bytes:
        second, fraction = divmod(nanoseconds, 10**9)
        if second != self._second:
            self._second, self._prefix = second, strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        return f"{self._prefix}.{fraction:09d}Z".encode()


def shown_attributes(attributes: Mapping[str, str]) -> str:
    """Return "key=value,key=value", escaped as in a query (moby logger/log_cache_opts)."""
    return ",".join(
        f"{quote_plus(key)}={quote_plus(value)}" for key, value in sorted(attributes.items())
    )
