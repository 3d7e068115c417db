"""What is remembered of execs, and what is refused before one exists."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.engine.containers import execs as module
from sampan.engine.containers.container import Container
from sampan.engine.containers.execs import Execs
from sampan.engine.containers.lookup import Table
from sampan.engine.events import Events
from sampan.engine.oci.specification import Specifications
from sampan.engine.tasks import Tasks
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.docker.exec import ExecCreateRequest, ExecStartRequest
from tests.unit.engine.fakes import FakeSpawner, container


@pytest.fixture
def spawner() -> Iterator[FakeSpawner]:
    made = FakeSpawner()
    yield made
    made.close()


def execs_of(made: Container, spawner: FakeSpawner) -> Execs:
    table = Table()
    table.add(made)
    return Execs(table, spawner, Specifications(Path("/data")), Events(), Tasks())


async def run(execs: Execs, made: Container) -> str:
    """Run one exec to its end, and return its id."""
    created = await execs.create(made.id, ExecCreateRequest(cmd=["true"]))
    await execs.start(created.id, ExecStartRequest(detach=True))
    await execs.settled(created.id)
    return created.id


def test_an_exec_that_ended_is_forgotten_after_some_time(
    spawner: FakeSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = container(running=True)

    async def story() -> None:
        execs = execs_of(made, spawner)
        first = await run(execs, made)
        assert execs.inspect(first).exit_code == 0
        assert made.execs == []
        monkeypatch.setattr(module, "KEPT_SECONDS", 0.0)
        await run(execs, made)
        with pytest.raises(NotFound):
            execs.inspect(first)

    asyncio.run(story())


def test_no_more_than_so_many_execs_that_ended_are_kept(
    spawner: FakeSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    made = container(running=True)

    async def story() -> None:
        execs = execs_of(made, spawner)
        ids = [await run(execs, made) for _ in range(4)]
        assert [each for each in ids if each in execs._execs] == ids[-2:]

    asyncio.run(story())


@pytest.mark.parametrize("size", [[1], [1, 2, 3], [-1, 80], [24, 1 << 16]])
def test_the_size_of_a_console_is_a_height_and_a_width(
    size: list[int], spawner: FakeSpawner
) -> None:
    made = container(running=True)

    async def story() -> None:
        execs = execs_of(made, spawner)
        with pytest.raises(InvalidArgument, match="invalid console size"):
            await execs.create(made.id, ExecCreateRequest(cmd=["true"], console_size=size))
        created = await execs.create(made.id, ExecCreateRequest(cmd=["true"]))
        with pytest.raises(InvalidArgument, match="invalid console size"):
            await execs.start(created.id, ExecStartRequest(console_size=size))

    asyncio.run(story())
