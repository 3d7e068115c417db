"""The progress of one build, as BuildKit tells it: vertices, logs, transfers.

Whoever asks for the status of a build gets all of it from the beginning, whenever they come.

Source: buildkit api/services/control/control.proto (StatusResponse), solver/progress.go.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.build.dockerfiles.faults import sentence_of
from sampan.build.telling.display import Chapter
from sampan.errors import SampanError
from sampan.spec.buildkit import control_pb2 as pb
from sampan.spec.docker.images import ProgressMessage

_BATCH: Final = 256  # messages in one answer
_PAUSE: Final = 0.005  # seconds in which news become one answer: an answer costs more than they do
_MAX_LOG: Final = 4 << 20  # bytes of logs of one vertex that are kept, as BuildKit does
_LEAST: Final = 32  # bytes that each piece counts: what tells of it takes memory, too
_CUT: Final = b"[output clipped, log limit 4MiB reached]\n"


class Progress:
    """What has happened in a build."""

    def __init__(self, ref: str, hear: Callable[[pb.StatusResponse], None] | None = None) -> None:
        self._ref, self._hear = ref, hear  # who hears of it keeps it, we do not
        self._told: list[bytes] = []  # encoded: that takes a tenth of the memory
        self._more, self._end = asyncio.Event(), asyncio.Event()
        self._vertices = 0
        self.steps: dict[str, tuple[bool, bool]] = {}  # by digest: was cached, has completed
        self.warned = 0
        self.ended = False
        self.followers = 0

    def vertex(self, name: str, after: Vertex | None = None) -> Vertex:
        """Begin a vertex: a step, or what has to be done before."""
        self._vertices += 1
        name_of = f"{self._ref}/{self._vertices}".encode()
        digest = f"sha256:{hashlib.sha256(name_of).hexdigest()}"
        return Vertex(self, digest, name, [after.digest] if after else [])

    @contextmanager
    def during(self, name: str) -> Iterator[Vertex]:
        """Tell of something by a vertex that ends with it, and has its error."""
        vertex = self.vertex(name)
        try:
            yield vertex
        except SampanError as error:
            vertex.end(str(error))
            raise
        finally:
            vertex.end()

    def tell(self, message: pb.StatusResponse) -> None:
        """Add to the story."""
        self.warned += len(message.warnings)
        for one in message.vertexes:
            self.steps[one.digest] = one.cached, one.HasField("completed") and not one.error
        if self._hear is not None:
            self._hear(message)
            return
        self._told.append(message.SerializeToString())
        self._wake()

    def end(self) -> None:
        """Say that nothing more will come."""
        self.ended = True
        self._end.set()
        self._wake()

    def all(self) -> Iterator[pb.StatusResponse]:
        """Yield all that was told, several things at once."""
        for at in range(0, len(self._told), _BATCH):
            yield _merged(self._told[at : at + _BATCH])

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()

    async def follow(self) -> AsyncIterator[pb.StatusResponse]:
        """Yield all that was told and will be, several things at once."""
        at = 0
        self.followers += 1
        try:
            while True:
                more = self._more
                if batch := self._told[at : at + _BATCH]:
                    at += len(batch)
                    yield _merged(batch)
                elif self.ended:
                    return
                else:
                    await more.wait()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_PAUSE):
                            await self._end.wait()
        finally:
            self.followers -= 1


def _merged(batch: Sequence[bytes]) -> pb.StatusResponse:
    return pb.StatusResponse.FromString(b"".join(batch))


class Vertex:
    """One thing that a build does."""

    def __init__(self, progress: Progress, digest: str, name: str, inputs: list[str]) -> None:
        self._progress, self.digest = progress, digest
        self._name, self._inputs = name, inputs
        self._started = _now()
        self._cached = False
        self._logged = 0
        self._transfers: dict[str, Timestamp] = {}
        self.completed = False
        self._show(None, "")

    def _show(self, completed: Timestamp | None, error: str) -> None:
        vertex = pb.Vertex(
            digest=self.digest,
            inputs=self._inputs,
            name=self._name,
            cached=self._cached,
            started=self._started,
            completed=completed,
            error=error,
        )
        self._progress.tell(pb.StatusResponse(vertexes=[vertex]))

    def log(self, data: bytes, stream: int = 1) -> None:
        """Add what a command has written to 1 or 2."""
        if self._logged > _MAX_LOG:
            return
        self._logged += max(len(data), _LEAST)
        if self._logged > _MAX_LOG:
            data = data + _CUT
        log = pb.VertexLog(vertex=self.digest, timestamp=_now(), stream=stream, msg=data)
        self._progress.tell(pb.StatusResponse(logs=[log]))

    def transfer(self, name: str, current: int, total: int, *, done: bool = False) -> None:
        """Tell how far a part of the work is, in bytes."""
        now = _now()
        started = self._transfers.setdefault(name, now)
        status = pb.VertexStatus(
            ID=name,
            vertex=self.digest,
            current=current,
            total=total,
            timestamp=now,
            started=started,
            completed=now if done else None,
        )
        self._progress.tell(pb.StatusResponse(statuses=[status]))

    def was_cached(self) -> None:
        """Say that nothing had to be done."""
        self._cached = True

    def end(self, error: str = "") -> None:
        """Complete it; a second time does nothing."""
        if not self.completed:
            self.completed = True
            self._show(_now(), error)


class Vertices:
    """Tells the steps of a build as vertices; see build.telling.display.Voices.

    `platform` says which build it is, of those for several.
    """

    def __init__(self, progress: Progress, platform: str, _: int = 0) -> None:
        """The number of all steps means nothing here: see Chapter."""
        self._progress = progress
        self._prefix = f"{platform} " if platform else ""

    def argument(self, number: int, text: str) -> None:
        """Nothing: it is no step of BuildKit's."""

    def voice(self, chapter: Chapter) -> Voice:
        """Return what one stage speaks by."""
        prefix = self._prefix + (f"{chapter.name} " if chapter.name else "")
        return Voice(self._progress, prefix, chapter.works)

    @contextmanager
    def source(self, name: str) -> Iterator[Callable[[ProgressMessage], None]]:
        """Tell of something that several stages use by a vertex of its own."""
        with self._progress.during(name) as vertex:
            yield partial(_pulled, vertex)


class Voice:
    """One stage; see build.telling.display.Speaker."""

    def __init__(self, progress: Progress, prefix: str, works: int) -> None:
        self._progress, self._prefix = progress, prefix
        self._works, self._number = works, 0
        self._vertex: Vertex | None = None
        self._before: Vertex | None = None

    def step(self, _: int, text: str, work: str = "") -> None:
        """Begin a vertex, if it is one of BuildKit's. Source: dockerfile2llb, prefixCommand."""
        if self._vertex:
            self._vertex.end()
            self._before, self._vertex = self._vertex, None
        if not work:
            return
        self._number += 1
        count = f"{self._number:>{len(str(self._works))}}/{self._works}"
        self._vertex = self._progress.vertex(f"[{self._prefix}{count}] {work}", self._before)

    def text(self, text: str) -> None:
        """Log output."""
        if self._vertex:
            self._vertex.log(text.encode("utf-8", "surrogateescape"))

    def output(self, stream: int, data: bytes) -> None:
        """Log what a command has written."""
        if self._vertex:
            self._vertex.log(data, stream)

    def say(self, message: ProgressMessage) -> None:
        """Tell how far a layer of the base image is."""
        if self._vertex:
            _pulled(self._vertex, message)

    def cached(self) -> None:
        """Mark the vertex."""
        if self._vertex:
            self._vertex.was_cached()

    def result(self, image: object) -> None:
        """Nothing: vertices have no images."""

    def running(self, container: str) -> None:
        """Nothing: vertices have no containers."""

    def removed(self, container: str) -> None:
        """Nothing: vertices have no containers."""

    def image(self, id: object) -> None:
        """Nothing: vertices have no images."""

    def end(self) -> None:
        """Complete the last vertex."""
        if self._vertex:
            self._vertex.end()

    def fail(self, error: BaseException) -> None:
        """Complete the last vertex with an error."""
        if self._vertex:
            self._vertex.end(sentence_of(error) or "context canceled")


def _pulled(vertex: Vertex, message: ProgressMessage) -> None:
    """Tell how far a layer of an image is."""
    if not message.id or not message.status:
        return
    detail = message.progress_detail
    current, total = (detail.current or 0, detail.total or 0) if detail else (0, 0)
    done = message.status in ("Pull complete", "Already exists")
    vertex.transfer(f"{message.status.lower()} {message.id}", current, total, done=done)


def _now() -> Timestamp:
    seconds, nanos = divmod(time.time_ns(), 10**9)
    return Timestamp(seconds=seconds, nanos=nanos)
