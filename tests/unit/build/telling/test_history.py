"""Builds that have ended are remembered, but not too many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from sampan.build.telling import history
from sampan.build.telling.history import Entry, Memory
from tests.build_worker import FakeDatabase

T = TypeVar("T")


class Here:
    """Calls functions at once."""

    async def call(self, func: Callable[[], T]) -> T:
        return func()


def test_the_oldest_go_but_those_that_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    database = FakeDatabase()
    monkeypatch.setattr(history, "PINNED", 1)

    async def main() -> None:
        memory = Memory(database, Here(), limit=2)
        for number in range(4):
            await memory.add(Entry(f"r{number}", number, b"record"), b"log %d" % number)
            if number == 0:
                assert await memory.pin("r0", pinned=True)
        assert [entry.ref for entry in await memory.entries()] == ["r3", "r2", "r0"]
        assert not await memory.pin("r3", pinned=True)  # too many
        assert not await memory.pin("none", pinned=False)
        assert await memory.log("r3") == b"log 3"
        assert await memory.log("r1") is None
        assert await memory.remove("r2")
        assert not await memory.remove("r2")
        assert await memory.pin("r0", pinned=False)
        later = Memory(database, Here(), limit=1)
        assert [(one.ref, one.pinned) for one in await later.entries()] == [("r3", False)]
        assert [one.record for one in await later.entries("r3")] == [b"record"]

    asyncio.run(main())


def test_attachments_go_with_their_builds() -> None:
    database = FakeDatabase()

    async def main() -> None:
        memory = Memory(database, Here(), limit=2)
        for number in range(3):
            documents = {"shared": b"s", f"own {number}": b"%d" % number}
            await memory.add(Entry(f"r{number}", number, b"record"), b"log", documents)
        assert await memory.attachment("own 0") is None
        assert await memory.attachment("own 2") == b"2"
        await memory.remove("r2")
        assert await memory.attachment("own 2") is None
        assert await memory.attachment("shared") == b"s"
        await memory.remove("r1")
        assert await memory.attachment("shared") is None

    asyncio.run(main())
