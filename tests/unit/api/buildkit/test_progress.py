"""Progress is told whole to everybody who asks, in the order in which it happened."""

from __future__ import annotations

import asyncio

import pytest

from sampan.api.buildkit import progress as module
from sampan.api.buildkit.progress import Progress, Vertices
from sampan.build.telling.display import Chapter
from sampan.spec.buildkit.control_pb2 import StatusResponse, Vertex
from sampan.spec.docker.images import ProgressDetail, ProgressMessage


async def told(progress: Progress) -> list[StatusResponse]:
    return [message async for message in progress.follow()]


def merged(progress: Progress) -> StatusResponse:
    whole = StatusResponse()
    for message in asyncio.run(told(progress)):
        whole.MergeFrom(message)
    return whole


def last(whole: StatusResponse) -> dict[str, Vertex]:
    return {vertex.name: vertex for vertex in whole.vertexes}


def test_who_comes_early_and_who_comes_late_hear_the_same() -> None:
    async def run() -> None:
        progress = Progress("r")
        early = asyncio.ensure_future(told(progress))
        await asyncio.sleep(0)
        vertex = progress.vertex("one")
        await asyncio.sleep(0)
        vertex.log(b"said")
        vertex.end()
        progress.end()
        heard = [StatusResponse(), StatusResponse()]
        for whole, messages in zip(heard, (await early, await told(progress)), strict=True):
            for message in messages:
                whole.MergeFrom(message)
        assert heard[0] == heard[1]
        assert [log.msg for log in heard[0].logs] == [b"said"]
        assert progress.followers == 0

    asyncio.run(run())


def test_news_that_come_close_together_are_one_answer() -> None:
    async def main() -> list[StatusResponse]:
        progress = Progress("ref")
        following = asyncio.create_task(told(progress))
        for number in range(5):
            vertex = progress.vertex(f"step {number}")
            for _ in range(5):
                await asyncio.sleep(0)  # whoever follows would have had its turn
            vertex.end()
        progress.end()
        return await following

    answers = asyncio.run(main())
    assert len(answers) <= 2
    assert sum(len(one.vertexes) for one in answers) == 10


def test_steps_follow_each_other_and_end_once() -> None:
    progress = Progress("r")
    voice = Vertices(progress, "").voice(Chapter("", 2))
    voice.step(1, "FROM a", "FROM docker.io/library/a:latest")
    voice.cached()
    voice.step(2, "ENV c=d")
    voice.text("nowhere")
    voice.step(3, "RUN b", "RUN b")
    voice.text("output")
    voice.running("c")
    voice.end()
    voice.end()
    progress.end()
    whole = merged(progress)
    first, second = last(whole)["[1/2] FROM docker.io/library/a:latest"], last(whole)["[2/2] RUN b"]
    assert first.cached
    assert not second.cached
    assert list(second.inputs) == [first.digest]
    assert first.HasField("completed")
    assert second.HasField("completed")
    assert len(whole.vertexes) == 4
    assert whole.logs[0].vertex == second.digest


def test_a_step_that_fails_has_the_error_and_a_stopped_one_is_cancelled() -> None:
    progress = Progress("r")
    voices = Vertices(progress, "linux/arm64")
    names = ("base", "stage-1", "")
    failed, stopped, silent = (voices.voice(Chapter(name, 12)) for name in names)
    failed.step(1, "RUN a", "RUN a")
    stopped.step(2, "RUN b", "RUN b")
    failed.fail(ValueError("it broke"))
    stopped.fail(asyncio.CancelledError())
    silent.fail(ValueError())
    progress.end()
    found = last(merged(progress))
    assert found["[linux/arm64 base  1/12] RUN a"].error == "it broke"
    assert found["[linux/arm64 stage-1  1/12] RUN b"].error == "context canceled"


def test_layers_of_a_base_image_are_transfers() -> None:
    progress = Progress("r")
    voice = Vertices(progress, "").voice(Chapter("", 1))
    voice.step(1, "FROM a", "FROM a")
    detail = ProgressDetail(current=5, total=9)
    voice.say(ProgressMessage(id="abc", status="Downloading", progress_detail=detail))
    voice.say(ProgressMessage(status="no layer"))
    progress.end()
    [status] = merged(progress).statuses
    assert (status.ID, status.current, status.total) == ("downloading abc", 5, 9)


def test_endless_output_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_LOG", 10)
    monkeypatch.setattr(module, "_LEAST", 1)
    progress = Progress("r")
    vertex = progress.vertex("v")
    for _ in range(5):
        vertex.log(b"123456")
    progress.end()
    assert b"".join(log.msg for log in merged(progress).logs).startswith(b"123456123456[output")
    assert len(merged(progress).logs) == 2


def test_output_byte_by_byte_is_cut_long_before_it_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_LOG", 100)
    progress = Progress("r")
    vertex = progress.vertex("v")
    for _ in range(50):
        vertex.log(b"x")
    progress.end()
    assert len(merged(progress).logs) == 4
