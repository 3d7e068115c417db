"""Steps of builds in containers: nothing of them stays, whenever their client leaves."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from sampan.engine.building import steps
from sampan.engine.building.layers import BuiltLayers
from sampan.engine.building.steps import Steps
from sampan.logs.stream import STDOUT, frame
from sampan.spec.build import Limits, RunStep


class SlowToStart:
    """Containers that can be removed only before and after they start."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.starting = asyncio.Event()

    async def create(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(id="c")

    async def attach(self, *_: Any) -> Any:
        ours, self.other = socket.socketpair()
        return SimpleNamespace(socket=ours)

    async def start(self, *_: Any) -> None:
        self.starting.set()
        try:
            await asyncio.sleep(0.01)
            self.told.append("started")
        except asyncio.CancelledError:
            self.told.append("half started")
            raise

    async def remove(self, *_: Any, **__: Any) -> None:
        self.told.append("removed")


def test_a_container_that_starts_is_removed_when_it_has() -> None:
    async def run() -> list[str]:
        containers: Any = SlowToStart()
        nothing: Any = None
        steps = Steps(containers, BuiltLayers(nothing), nothing, nothing)
        step = RunStep(
            chain=None, architecture="amd64", os="linux", variant="", command=["x"], env=[],
            user="", working_dir="/", network="", extra_hosts=[], security_opt=[],
            limits=Limits(),
        )  # fmt: skip
        task = asyncio.ensure_future(steps.run(step, lambda _: None, lambda *_: None))
        await containers.starting.wait()
        task.cancel()
        await asyncio.wait([task], timeout=20)
        assert task.cancelled()
        containers.other.close()
        found: list[str] = containers.told
        return found

    assert asyncio.run(run()) == ["started", "removed"]


def test_a_step_that_prints_without_a_pause_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 20
    monkeypatch.setattr(steps, "_READ", 9)

    async def work() -> tuple[int, list[bytes]]:
        near, far = socket.socketpair()
        printed: list[bytes] = []
        with near, far:
            far.send(frame(STDOUT, b"y") * count)
            far.shutdown(socket.SHUT_WR)
            copying = asyncio.create_task(
                steps._copy_frames(near, lambda _, data: printed.append(data))
            )
            turns = 0
            while not copying.done():
                turns += 1
                await asyncio.sleep(0)
        return turns, printed

    turns, printed = asyncio.run(work())
    assert printed == [b"y"] * count
    assert turns >= count
