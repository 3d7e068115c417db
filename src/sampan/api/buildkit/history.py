"""The history of builds as clients of BuildKit see it: those that run, and those that have ended.

Source: buildkit api/services/control/control.proto (BuildHistoryRecord), control/control.go,
solver/llbsolver/history.go; docker/buildx commands/history (filters).
"""

from __future__ import annotations

import asyncio
import logging
import operator
import sqlite3
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from google.rpc.status_pb2 import Status
from grpclib.exceptions import GRPCError

from sampan.api.buildkit.calls import told
from sampan.api.buildkit.jobs import Job, Jobs
from sampan.build.attesting.provenance import PROVENANCE_02
from sampan.build.caching.conditions import Condition, of, passes, read_conditions
from sampan.build.exporting.assembling import MEDIA_STATEMENT, PREDICATE
from sampan.build.instructions.durations import duration
from sampan.build.solver import StepFailed
from sampan.build.telling.history import Entry, Memory
from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.http.urls import redacted
from sampan.spec.buildkit import control_pb2 as pb
from sampan.spec.digest import digest_of
from sampan.spec.image import nanoseconds

log = logging.getLogger(__name__)
_LOG: Final = 4 << 20  # bytes of output of one build that are remembered
_RECORD: Final = 1 << 20  # bytes of a record
_CANCELLED: Final = 1  # gRPC's code
_HEAD: Final = 4  # bytes of the length of a message
_MISSED: Final = 1000  # events that a listener may be behind
_ORDER: Final[dict[str, Callable[[int, int], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Chronicle:
    """Writes down what builds do, and tells of it."""

    def __init__(self, jobs: Jobs, history: Memory) -> None:
        self._jobs, self._history = jobs, history
        self._active: dict[str, pb.BuildHistoryRecord] = {}
        self._listeners: set[asyncio.Queue[pb.BuildHistoryEvent | None]] = set()

    def begin(self, request: pb.SolveRequest) -> None:
        """Note that a build runs."""
        record = pb.BuildHistoryRecord(
            Ref=request.Ref,
            Frontend=request.Frontend or "dockerfile.v0",
            FrontendAttrs=_shown(request.FrontendAttrs),
            Exporters=request.Exporters,
            CreatedAt=datetime.now(UTC),
        )
        self._active[request.Ref] = record
        self._tell(pb.BuildHistoryEventType.STARTED, record)

    async def end(self, job: Job, response: Mapping[str, str], error: BaseException | None) -> None:
        """Note that it has ended, and how."""
        record = self._active.pop(job.ref)
        record.FrontendAttrs.update(_shown(job.attributes))
        record.CompletedAt.FromDatetime(datetime.now(UTC))
        record.ExporterResponse.update(response)
        steps = job.progress.steps.values()
        record.numTotalSteps = len(steps)
        record.numCompletedSteps = sum(completed for _, completed in steps)
        record.numCachedSteps = sum(cached for cached, _ in steps)
        record.numWarnings = job.progress.warned
        if error is not None:
            record.error.CopyFrom(_status(error))
        attachments = _attached(record, job.provenance)
        raw = record.SerializeToString()
        if len(raw) > _RECORD:
            log.warning("build %s is not remembered: its record has %d bytes", job.ref, len(raw))
            return
        try:
            entry = Entry(job.ref, time.time_ns(), raw)
            await self._history.add(entry, packed(job.progress.all()), attachments)
        except (OSError, SampanError, sqlite3.Error) as fault:  # the build itself is done
            log.warning("build %s is not remembered: %s", job.ref, fault)
            return
        self._tell(pb.BuildHistoryEventType.COMPLETE, record)

    async def listen(self, request: pb.BuildHistoryRequest) -> AsyncIterator[pb.BuildHistoryEvent]:
        """Tell of builds that run and that have ended, and of what happens from now on."""
        conditions = read_conditions(request.Filter)
        events: asyncio.Queue[pb.BuildHistoryEvent | None] = asyncio.Queue(_MISSED)
        self._listeners.add(events)
        try:
            for event in await self._known(request, conditions):
                yield event
            while not request.EarlyExit:
                following = await events.get()
                if following is None:
                    raise InvalidArgument("the listener is too slow")
                if request.Ref in ("", following.record.Ref) and _matches(
                    following.record, conditions
                ):
                    yield following
        finally:
            self._listeners.discard(events)

    async def _known(
        self, request: pb.BuildHistoryRequest, conditions: Sequence[Sequence[Condition]]
    ) -> list[pb.BuildHistoryEvent]:
        kind = pb.BuildHistoryEventType
        found = [pb.BuildHistoryEvent(type=kind.STARTED, record=it) for it in self._running()]
        if not request.ActiveOnly:
            records = [_record(entry) for entry in await self._history.entries(request.Ref)]
            found += [pb.BuildHistoryEvent(type=kind.COMPLETE, record=it) for it in records]
        found = [
            one
            for one in found
            if request.Ref in ("", one.record.Ref) and _matches(one.record, conditions)
        ]
        found.sort(key=lambda one: one.record.CreatedAt.ToNanoseconds(), reverse=True)
        return found[: request.Limit] if request.Limit > 0 else found

    def _running(self) -> Iterator[pb.BuildHistoryRecord]:
        for record in self._active.values():
            job = self._jobs.running(record.Ref)
            if job is not None:
                record.numTotalSteps = len(job.progress.steps)
            yield record

    async def update(self, request: pb.UpdateBuildHistoryRequest) -> None:
        """Forget a build, or pin it. Raises NotFound."""
        ref = request.Ref
        if request.Delete:
            if not await self._history.remove(ref):
                raise NotFound(f"failed to find ref {ref}")
            self._tell(pb.BuildHistoryEventType.DELETED, pb.BuildHistoryRecord(Ref=ref))
        elif request.Finalize:
            return  # there are no traces to wait for
        elif not await self._history.pin(ref, pinned=request.Pinned):
            raise NotFound(f"failed to find ref {ref}, or too many builds are pinned")

    async def attachment(self, digest: str) -> bytes:
        """Return a document that a record names. Raises NotFound."""
        content = await self._history.attachment(digest)
        if content is None:
            raise NotFound(f"content {digest}: not found")
        return content

    async def replay(self, ref: str) -> AsyncIterator[pb.StatusResponse]:
        """Yield what a build has said that has ended. Raises NotFound."""
        content = await self._history.log(ref)
        if content is None:
            raise NotFound(f"no such job {ref}")
        for message in unpacked(content):
            yield message

    async def knows(self, ref: str) -> bool:
        """Tell whether a build has ended that is remembered."""
        return bool(ref) and bool(await self._history.entries(ref))

    def _tell(self, kind: pb.BuildHistoryEventType, record: pb.BuildHistoryRecord) -> None:
        event = pb.BuildHistoryEvent(type=kind, record=record)
        for events in self._listeners:
            if events.full():
                while not events.empty():
                    events.get_nowait()
                events.put_nowait(None)
            else:
                events.put_nowait(event)


def _shown(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return what a client has asked for; passwords in addresses are not kept."""
    return {name: redacted(value) for name, value in attributes.items()}


def _attached(record: pb.BuildHistoryRecord, told: Mapping[str, bytes]) -> dict[str, bytes]:
    """Let a record name what is said of its results; return that by digest."""
    found: dict[str, bytes] = {}
    for platform, content in told.items():
        if len(content) > _RECORD:
            continue
        digest = digest_of(content)
        found[digest] = content
        result = record.Result if len(told) == 1 else record.Results[platform]
        result.Attestations.add(
            media_type=MEDIA_STATEMENT,
            digest=digest,
            size=len(content),
            annotations={PREDICATE: PROVENANCE_02},
        )
    return found


def _record(entry: Entry) -> pb.BuildHistoryRecord:
    record = pb.BuildHistoryRecord.FromString(entry.record)
    record.pinned = entry.pinned
    return record


def _status(error: BaseException) -> Status:
    if isinstance(error, SampanError | StepFailed):
        error = told(error)
    if isinstance(error, GRPCError):
        return Status(code=error.status.value, message=error.message or "")
    return Status(code=_CANCELLED, message="context canceled")


# --- what a build has said ---------------------------------------------------------------------


def packed(messages: Iterable[pb.StatusResponse]) -> bytes:
    """Return messages as they are kept; of too much output only the beginning."""
    packer, size, pieces = zlib.compressobj(), 0, []
    for message in messages:
        if size > _LOG:
            kept = pb.StatusResponse(vertexes=message.vertexes, warnings=message.warnings)
            message = kept
        raw = message.SerializeToString()
        size += len(raw)
        pieces.append(packer.compress(len(raw).to_bytes(_HEAD, "big") + raw))
    return b"".join([*pieces, packer.flush()])


def unpacked(content: bytes) -> Iterator[pb.StatusResponse]:
    """Yield messages that were kept."""
    raw = zlib.decompress(content)
    at = 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + _HEAD], "big")
        at += _HEAD
        yield pb.StatusResponse.FromString(raw[at : at + size])
        at += size


# --- filters -----------------------------------------------------------------------------------


def _matches(record: pb.BuildHistoryRecord, conditions: Sequence[Sequence[Condition]]) -> bool:
    if not conditions:
        return True
    began = record.CreatedAt.ToNanoseconds()
    ended = record.CompletedAt.ToNanoseconds() if record.HasField("CompletedAt") else 0
    source = record.FrontendAttrs.get("vcs:source") or record.FrontendAttrs.get("context", "")
    fields = {
        "ref": of(record.Ref),
        "status": of(_state(record)),
        "repository": of(source),
        "startedAt": lambda one: _compare(one, began, _moment(one.value)),
        "completedAt": lambda one: _compare(one, ended, _moment(one.value)),
        "duration": lambda one: _compare(one, max(ended - began, 0), duration(one.value)),
    }
    return passes(conditions, fields)


def _state(record: pb.BuildHistoryRecord) -> str:
    if not record.HasField("CompletedAt"):
        return "running"
    if not record.HasField("error"):
        return "completed"
    return "canceled" if "context canceled" in record.error.message else "error"


def _compare(condition: Condition, value: int, wanted: int) -> bool:
    if condition.operator not in _ORDER:
        raise InvalidArgument(f"invalid operator of the filter {condition.name}")
    return _ORDER[condition.operator](value, wanted)


def _moment(text: str) -> int:
    try:
        return time.time_ns() - duration(text)
    except InvalidArgument:
        return nanoseconds(text)
