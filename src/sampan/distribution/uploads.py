"""One blob on its way to a registry.

Source: opencontainers/distribution-spec, "Pushing blobs".
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sampan.distribution.headers import uploaded
from sampan.distribution.refusals import Refusal
from sampan.distribution.session import Session, expect, may_pass
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

REPLAY_BYTES = 4 << 20  # that can be sent again: about what both kernels hold on their way
CHUNK_BYTES = 5 << 20
_PROGRESS = 1 << 20  # after so many bytes, the attempts are counted anew
_LARGEST_CHUNK = 64 << 20  # that a registry may ask for by OCI-Chunk-Min-Length
COMMIT_SECONDS = 300.0  # a registry may copy the blob before it answers
_OCTETS = ("Content-Type", "application/octet-stream")
_OTHER_WAY = frozenset({400, 401, 404, 405, 411, 413, 415, 416, 501})
_STORED = (201, 204)
# What docker-registry says of an upload that broke within a PATCH, and then forgets it.
_FORGOTTEN = frozenset({"", "BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"})
_FINAL = frozenset({"DENIED", "DIGEST_INVALID", "SIZE_INVALID", "NAME_INVALID", "NAME_UNKNOWN"})


class Replay:
    """A reader that counts and hashes, and whose last bytes can be read again."""

    def __init__(self, read: Read, advance: Advance, name: str = "sha256") -> None:
        self._read = read
        self._advance = advance
        self._hash = hashlib.new(name)
        self._name = name
        self._kept: deque[bytes] = deque()
        self._start = 0  # where `_kept` begins
        self._at = 0  # what is read next
        self._ended = False
        self.size = 0  # of all that came from the reader

    @property
    def digest(self) -> Digest:
        """The digest of what has been read."""
        return Digest(f"{self._name}:{self._hash.hexdigest()}")

    def read(self, size: int) -> bytes:
        """Return the next bytes, b"" at the end."""
        if self._at < self.size:
            return self._repeat(size)
        if self._ended or not (data := self._read(size)):
            self._ended = True
            return b""
        self._hash.update(data)
        self._kept.append(data)
        self.size += len(data)
        self._at = self.size
        while self.size - self._start > REPLAY_BYTES:
            self._start += len(self._kept.popleft())
        self._advance(len(data))
        return data

    def _repeat(self, size: int) -> bytes:
        place = self._start
        for piece in self._kept:
            if self._at < place + len(piece):
                skip = self._at - place
                data = piece[skip : skip + size]
                self._at += len(data)
                return data
            place += len(piece)
        raise AssertionError("what is before the end is kept")

    def rewind(self, to: int = 0) -> bool:
        """Go on at `to`; False if that is too far back, or has never been read."""
        if not self._start <= to <= self.size:
            return False
        self._at = to
        return True


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
        self._committing: Digest | None = None  # the registry has been told that this is all
        self._is_given_up = False

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
                try:
                    return await self._by(ways.pop(0), digest, size)
                except (Refusal, FailedRequest) as error:
                    over = not ways or self._is_given_up or not _is_worth_another(error)
                    if over or not self._replay.rewind():
                        raise
                    self._end()
        except BaseException:
            self._end()
            raise

    async def _by(
        self,
        way: Callable[[Digest | None, int | None], Awaitable[Digest]],
        digest: Digest | None,
        size: int | None,
    ) -> Digest:
        await self._open()
        try:
            return await way(digest, size)
        except (Refusal, FailedRequest) as error:
            if not may_pass(error):
                raise
            if self._committing and await self._is_there(self._committing):
                self._location = None
                return self._committing  # only the answer was lost
            if way == self._chunks:
                raise
            try:
                return await self._go_on(digest, size)
            except Refusal as second:
                if second.code not in _FORGOTTEN:
                    raise
            raise error

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
        self._committing = None
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
        self._committing = digest
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

    async def _go_on(self, digest: Digest | None, size: int | None) -> Digest:
        """Take a broken stream up where the registry has stopped."""
        transport = self._session.transport
        attempt, before = 1, 0
        while True:
            await transport.pause(attempt)
            try:
                held = await self._held()
                if not self._replay.rewind(held):
                    lost = Upstream("the registry has lost a part of the upload")
                    lost.may_pass = True  # a registry that was killed: begin again
                    raise lost
                if held - before >= _PROGRESS:
                    attempt, before = 1, held
                if held != size:
                    left = None if size is None else size - held
                    call = Call("PATCH", (_OCTETS,), Source(self._replay.read, left))
                    answer = await self._send(self._where(), call)
                    await expect(answer, 202, 204)
                    self._location = self._next(answer)
                return await self._commit(digest, size)
            except (Refusal, FailedRequest) as error:
                if not may_pass(error):
                    raise
                if attempt >= transport.config.max_attempts:
                    self._is_given_up = True
                    raise
            attempt += 1

    async def _chunks(self, digest: Digest | None, size: int | None) -> Digest:
        """Send pieces of known length and place, then PUT."""
        offset = 0
        while data := await in_thread(self._read_chunk):
            await self._send_chunk(offset, data)
            offset += len(data)
        return await self._commit(digest, size)

    async def _commit(self, digest: Digest | None, size: int | None) -> Digest:
        self._committing = digest = digest or self._replay.digest
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
                if attempt == attempts or not may_pass(error):
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
        held = await self._held()
        if not offset <= held <= offset + size:
            raise Upstream("the registry has lost a part of the upload")
        return held - offset

    # --- what the registry has ---------------------------------------------------------------

    async def _held(self) -> int:
        """Return how many bytes of the upload the registry has."""
        answer = await self._session.send(self._where(), Call("GET", attempts=1))
        await expect(answer, 204, 200, 202)
        held = uploaded(answer.headers.get("range"))
        self._location = self._next(answer)
        if held is None:
            raise Upstream("the registry does not tell how far an upload is")
        return 0 if held == 1 else held  # what has nothing says 0-0, too

    async def _is_there(self, digest: Digest) -> bool:
        """Tell whether a blob has been stored after all."""
        try:
            path = f"{self._path}/blobs/{digest}"
            async with await self._session.send(path, Call("HEAD")) as answer:
                return answer.status == 200
        except (Refusal, FailedRequest):
            return False


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


def _is_worth_another(error: Refusal | FailedRequest) -> bool:
    """Tell whether a registry may take the same blob sent in another way."""
    if isinstance(error, FailedRequest):
        return isinstance(error.fault, BrokenFault)
    return error.code not in _FINAL and (error.status in _OTHER_WAY or error.may_pass)


def known_reader(digest: Digest, read: Read, advance: Advance) -> Replay:
    """Return a reader that hashes by the algorithm of `digest`."""
    return Replay(read, advance, algorithm(digest))
