"""What an object storage does for the driver: a flat map from keys to contents.

Keys are whole. Missing objects raise FileNotFoundError, all other failures are OSError whose
message a client may read. Calls block and may be made from any number of threads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from sampan.registry.drivers.driver import Move, Writer
from sampan.registry.drivers.objects.outbox import Sending

REASON = 300  # characters
_ADDRESS = re.compile(r"""[: ]*["']?\bhttps?://[^\s"']+["']?""")
_HOST = re.compile(r"HTTPS?Connection\([^)]*\):? ?")
URL_SECONDS = 20 * 60  # that an address for a client is good for, as with docker-registry


@dataclass(frozen=True, slots=True)
class Entry:
    """One object."""

    key: str
    size: int
    modified: float = 0.0  # seconds since the epoch
    etag: str = ""  # changes with the content


class Body(Protocol):
    """The content of an object on its way."""

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes; nothing at the end. Raises OSError if it is cut off."""

    def close(self) -> None: ...


class ToldBody:
    """An object on its way, by a library whose failures `told` makes those of drivers."""

    def __init__(self, stream: Any, told: Callable[[], AbstractContextManager[None]]) -> None:
        self._stream = stream
        self._told = told

    def read(self, count: int) -> bytes:
        with self._told():
            piece: bytes = self._stream.read(count)
        return piece

    def close(self) -> None:
        self._stream.close()


class Bucket(Protocol):
    """One bucket, or container, below one root."""

    name: str  # for people: `s3://bucket/root`
    chunk: int  # bytes of a part of an upload
    least: int  # bytes that every part but the last must have to be joined
    together: int  # objects that one request removes

    def head(self, key: str) -> Entry:
        """Return what is known of an object."""

    def get(self, key: str, offset: int, size: int) -> Body:
        """Begin to read `size` bytes from `offset` on; there are as many, and at least one."""

    def put(self, key: str, content: BinaryIO, size: int) -> Entry:
        """Store a file, from its beginning on, in place of what was there."""

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield all objects whose keys begin with a prefix, in the order of their keys."""

    def names(self, prefix: str) -> Iterator[str]:
        """Yield what follows the prefix in keys up to the next slash, each once."""

    def delete(self, keys: Sequence[str]) -> None:
        """Remove up to `together` objects; those that are gone do not matter."""

    def join(self, parts: Sequence[Entry], target: str, threads: Executor) -> Move:
        """Return the copying of objects into one: nobody may have changed them.

        The parts may be removed afterwards.
        """

    def append(self, key: str, offset: int, sending: Sending) -> Writer | None:
        """Open an object that grows in place; None if this storage needs parts."""

    def url(self, key: str, method: str) -> str:
        """Return where a client gets an object for URL_SECONDS; empty if there is no such place."""

    def sweep(self, before: float) -> None:
        """Remove what was left by joining that was broken off before a time: it costs room."""

    def check(self) -> None:
        """Raise OSError if the bucket cannot be used."""

    def close(self) -> None: ...


def reason(error: BaseException) -> str:
    """Return what an error of a library says, without addresses that are nobody's business."""
    text = str(error).partition("\n")[0]
    if "ConnectionPool(" in text:  # requests tells host, port and address; its cause is enough
        named = re.findall(r"\b\w+(?:Error|Timeout)\b", text)
        text = f"cannot be reached: {named[-1] if named else type(error).__name__}"
    if broken := re.match(
        r"\('Connection aborted\.', (\w+)\(", text
    ):  # a tuple, as requests has it
        text = f"the connection broke: {broken[1]}"
    return _ADDRESS.sub("", _HOST.sub("", text))[:REASON]


def batches(keys: Iterable[str], count: int) -> Iterator[list[str]]:
    """Yield keys in batches of `count` at most."""
    group: list[str] = []
    for key in keys:
        group.append(key)
        if len(group) == count:
            yield group
            group = []
    if group:
        yield group
