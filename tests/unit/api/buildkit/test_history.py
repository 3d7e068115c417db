"""What builds have said is kept, and a history that cannot be written harms no build."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import pytest

from sampan.api.buildkit import history
from sampan.api.buildkit.history import Chronicle, packed, unpacked
from sampan.api.buildkit.jobs import Jobs
from sampan.api.buildkit.sessions import Sessions
from sampan.errors import NotFound
from sampan.spec.buildkit import control_pb2 as pb
from tests.build_worker import Yard


def log(data: bytes) -> pb.StatusResponse:
    return pb.StatusResponse(
        vertexes=[pb.Vertex(digest="d", name="n")], logs=[pb.VertexLog(vertex="d", msg=data)]
    )


def test_messages_come_back_as_they_were() -> None:
    messages = [log(b"one"), log(b"two"), pb.StatusResponse()]
    assert list(unpacked(packed(messages))) == messages


def test_of_too_much_output_the_steps_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_LOG", 100)
    found = list(unpacked(packed([log(b"x" * 200), log(b"y")])))
    assert [len(one.logs) for one in found] == [1, 0]
    assert [len(one.vertexes) for one in found] == [1, 1]


def jobs_of(yard: Yard) -> Jobs:
    outlet: Any = None
    return Jobs(yard.builder, outlet, Sessions())


class Full:
    """A memory that has no room."""

    async def add(self, *_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async def entries(self, ref: str = "") -> list[Any]:
        return []

    async def log(self, ref: str) -> bytes | None:
        return None

    async def remove(self, ref: str) -> bool:
        return False


def test_a_history_that_cannot_be_written_harms_no_build() -> None:
    async def main() -> None:
        jobs = jobs_of(Yard())
        chronicle = Chronicle(jobs, Full())  # type: ignore[arg-type]
        async with jobs.open("r") as job:
            chronicle.begin(pb.SolveRequest(Ref="r"))
            await chronicle.end(job, {}, None)
        request = pb.BuildHistoryRequest(EarlyExit=True)
        assert [event async for event in chronicle.listen(request)] == []
        with pytest.raises(NotFound, match="no such job r"):
            [message async for message in chronicle.replay("r")]
        with pytest.raises(NotFound, match="failed to find ref r"):
            await chronicle.update(pb.UpdateBuildHistoryRequest(Ref="r", Delete=True))

    asyncio.run(main())


def test_a_listener_that_does_not_listen_costs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_MISSED", 2)

    async def main() -> list[str]:
        chronicle = Chronicle(jobs_of(Yard()), Full())  # type: ignore[arg-type]
        listener = chronicle.listen(pb.BuildHistoryRequest())
        chronicle.begin(pb.SolveRequest(Ref="r0"))
        seen = [(await anext(listener)).record.Ref]
        for number in range(1, 5):
            chronicle.begin(pb.SolveRequest(Ref=f"r{number}"))
        try:
            while True:
                seen.append((await anext(listener)).record.Ref)
        except Exception as error:
            return [*seen, str(error)]

    *_, last = asyncio.run(main())
    assert last == "the listener is too slow"
