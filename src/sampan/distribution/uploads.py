"""One blob on its way to a registry.

Source: opencontainers/distribution-spec, "Pushing blobs".
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sampan.distribution.headers import uploaded
from sampan.distribution.refusals import Refusal
from sampan.distribution.session import Session, expect
from sampan.distribution.transport import Call, FailedRequest
from sampan.errors import InvalidArgument, Upstream
from sampan.http.exchange import Answer, Source
from sampan.http.faults import BrokenFault
from sampan.http.pump import Halt, in_thread
from sampan.http.urls import PORTS, Url
from sampan.spec.digest import Digest, algorithm

Advance = Callable[[int], None]
Read = Callable[[int], bytes]
Farewell = Callable[[Coroutine[Any, Any, None]], None]
"""Lets something end that nobody waits for."""

REPLAY_BYTES = 4 << 20  # of the beginning that can be sent again
CHUNK_BYTES = 5 << 20
_LARGEST_CHUNK = 64 << 20  # that a registry may ask for by OCI-Chunk-Min-Length
COMMIT_SECONDS = 300.0  # a registry may copy the blob before it answers
_OCTETS = ("Content-Type", "application/octet-stream")
_OTHER_WAY = frozenset({400, 401, 404, 405, 411, 413, 415, 416, 501})
_STORED = (201, 204)
_FINAL = frozenset({"DENIED", "DIGEST_INVALID", "SIZE_INVALID", "NAME_INVALID", "NAME_UNKNOWN"})


class Replay:
    """A reader that counts and hashes, and whose beginning can be read again."""

    def __init__(self, read: Read, advance: Advance, name: str = "sha256") -> None:
        self._read = read
        self._advance = advance
        self._hash = hashlib.new(name)
        self._kept: list[bytes] = []
        self._next = 0  # of `_kept`, while it is read again
        self.size = 0
        self._name = name

    @property
    def digest(self) -> Digest:
        """The digest of what has been read."""
        return Digest(f"{self._name}:{self._hash.hexdigest()}")

    def read(self, size: int) -> bytes:
        """Return the next bytes, b"" at the end."""
        if self._next < len(self._kept):
            self._next += 1
            return self._kept[self._next - 1]
        data = self._read(size)
        self._hash.update(data)
        self.size += len(data)
        if self.size <= REPLAY_BYTES:
            self._kept.append(data)
            self._next += 1
        else:
            self._kept.clear()
            self._next = 0
        if data:
            self._advance(len(data))
        return data

    def rewind(self) -> bool:
        """Begin again; False if too much has been read for that."""
        self._next = 0
        return self.size <= REPLAY_BYTES


class Upload:
    """Sends one blob, in the way that this registry takes."""

    def __init__(
        self, session: Session, path: str, replay: Replay, farewell: Farewell, location: Url | None
    ) -> None:
        self._session = session
        self._path = path
        self._replay = replay
        self._farewell = farewell
        self._location = location
        self._chunk = CHUNK_BYTES

    async def run(self, digest: Digest | None = None, size: int | None = None) -> Digest:
        """Send the blob; `digest` and `size` are known or not. Returns the digest.

        Raises Refusal, FailedRequest, Unauthorized, Upstream; the session at the registry is
        ended then.
        """
        ways: list[Callable[[Digest | None, int | None], Awaitable[Digest]]]
        ways = [self._stream, self._chunks]
        if digest is not None and size is not None:
            ways.insert(0, self._whole)
        try:
            while True:
                way = ways.pop(0)
                try:
                    await self._open()
                    return await way(digest, size)
                except (Refusal, FailedRequest) as error:
                    if not ways or not _is_worth_another(error) or not self._replay.rewind():
                        raise
                    self._end()
        except BaseException:
            self._end()
            raise

    # --- sessions ----------------------------------------------------------------------------

    async def _open(self) -> None:
        if self._location is not None:
            return
        call = Call("POST")
        answer = await self._session.send(f"{self._path}/blobs/uploads/", call)
        await expect(answer, 202)
        with_answer = self._next(answer)
        least = answer.headers.get("oci-chunk-min-length")
        if least.isascii() and least.isdecimal() and len(least) < 12:
            self._chunk = max(self._chunk, min(int(least), _LARGEST_CHUNK))
        self._location = with_answer

    def _next(self, answer: Answer) -> Url:
        """Return where the upload goes on, and end the answer."""
        try:
            return next_location(answer)
        finally:
            answer.close()

    def _end(self) -> None:
        """Tell the registry to forget the session, without waiting for it."""
        if self._location is not None:
            self._farewell(_forget(self._session, self._location))
            self._location = None

    def _where(self) -> Url:
        assert self._location is not None
        return self._location

    # --- ways --------------------------------------------------------------------------------

    async def _whole(self, digest: Digest | None, size: int | None) -> Digest:
        """Send all in one PUT."""
        assert digest is not None
        source = Source(self._replay.read, size)
        call = Call("PUT", (_OCTETS,), source, COMMIT_SECONDS)
        async with await self._send(self._where().with_query(f"digest={digest}"), call) as answer:
            if answer.status in _STORED:
                self._check(digest, size)
            await self._is_stored(answer)
        return digest

    async def _stream(self, digest: Digest | None, size: int | None) -> Digest:
        """Send all in one PATCH, of a length that need not be known, then PUT."""
        call = Call("PATCH", (_OCTETS,), Source(self._replay.read, size))
        answer = await self._send(self._where(), call)
        await expect(answer, 202, 204)
        self._location = self._next(answer)
        return await self._commit(digest, size)

    async def _chunks(self, digest: Digest | None, size: int | None) -> Digest:
        """Send pieces of known length and place, then PUT."""
        offset = 0
        while data := await in_thread(self._read_chunk):
            await self._send_chunk(offset, data)
            offset += len(data)
        return await self._commit(digest, size)

    async def _commit(self, digest: Digest | None, size: int | None) -> Digest:
        digest = digest or self._replay.digest
        self._check(digest, size)
        url = self._where().with_query(f"digest={digest}")
        call = Call("PUT", answer_seconds=COMMIT_SECONDS)
        async with await self._session.send(url, call) as answer:
            await self._is_stored(answer)
        return digest

    async def _is_stored(self, answer: Answer) -> None:
        await expect(answer, *_STORED)
        self._location = None

    async def _send(self, url: Url, call: Call) -> Answer:
        try:
            return await self._session.send(url, call)
        except ValueError as error:
            raise Upstream(f"cannot upload: {error}") from None

    def _check(self, digest: Digest, size: int | None) -> None:
        """See that what was read is what was announced."""
        read = self._replay
        if size is not None and read.size != size:
            raise Upstream(f"{digest} has {read.size} bytes instead of {size}")
        if read.digest != digest:
            raise Upstream(f"content of {digest} has the digest {read.digest}")

    def _read_chunk(self, halt: Halt) -> bytes:
        pieces, missing = [], self._chunk
        while missing > 0 and (data := self._replay.read(missing)):
            halt.check()
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)

    async def _send_chunk(self, offset: int, data: bytes) -> None:
        """Send one piece; after a broken connection, only what the registry has not got."""
        at, attempts = 0, self._session.transport.config.max_attempts
        for attempt in range(1, attempts + 1):
            first, last = offset + at, offset + len(data) - 1
            place = ("Content-Range", f"{first}-{last}")
            call = Call("PATCH", (_OCTETS, place), data[at:], attempts=1)
            try:
                answer = await self._session.send(self._where(), call)
                await expect(answer, 202, 204)
            except (Refusal, FailedRequest) as error:
                if attempt == attempts or not _may_pass(error):
                    raise
                await self._session.transport.pause(attempt)
                at = await self._resume(offset, len(data))
                if at == len(data):
                    return
                continue
            self._location = self._next(answer)
            return

    async def _resume(self, offset: int, size: int) -> int:
        """Return how many bytes of the piece at `offset` the registry has already."""
        answer = await self._session.send(self._where(), Call("GET"))
        await expect(answer, 204, 200, 202)
        held = uploaded(answer.headers.get("range"))
        self._location = self._next(answer)
        if held == 1 and offset == 0:
            held = 0  # registries that have nothing say 0-0
        if held is None or not offset <= held <= offset + size:
            raise Upstream("the registry has lost a part of the upload")
        return held - offset


def next_location(answer: Answer) -> Url:
    """Return the Location of an answer. Raises Upstream if it is none, or loses TLS."""
    text = answer.headers.get("location")
    try:
        if not text:
            raise InvalidArgument("it has no Location")
        target = answer.url.join(text)
    except InvalidArgument as error:
        raise Upstream(f'Post "{answer.url}": bad answer to an upload: {error}') from None
    if answer.url.scheme == "https" and target.scheme == "http":
        # A registry that does not know of the TLS in front of it.
        if target.host != answer.url.host or target.port not in (PORTS["http"], answer.url.port):
            raise Upstream(f'Post "{answer.url}": refused to upload to {target.authority}')
        return Url("https", answer.url.host, answer.url.port, target.target)
    return target


async def _forget(session: Session, location: Url) -> None:
    try:
        call = Call("DELETE", answer_seconds=5.0, attempts=1)
        (await session.send(location, call)).close()
    except (FailedRequest, Upstream):
        pass  # the registry will forget it by itself


def _may_pass(error: Refusal | FailedRequest) -> bool:
    if isinstance(error, Refusal):
        return error.may_pass
    return error.fault.may_pass


def _is_worth_another(error: Refusal | FailedRequest) -> bool:
    """Tell whether a registry may take the same blob sent in another way."""
    if isinstance(error, FailedRequest):
        return isinstance(error.fault, BrokenFault)
    return error.code not in _FINAL and (error.status in _OTHER_WAY or error.may_pass)


def known_reader(digest: Digest, read: Read, advance: Advance) -> Replay:
    """Return a reader that hashes by the algorithm of `digest`."""
    return Replay(read, advance, algorithm(digest))
