"""Output that nobody reads takes an end of memory, and nothing else is lost."""

from __future__ import annotations

import asyncio

import pytest

from sampan.build.telling import backlog as module
from sampan.build.telling.backlog import Backlog
from sampan.spec.docker.images import ProgressMessage


def test_of_output_that_is_not_read_there_is_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 600)

    async def run() -> list[str]:
        found = Backlog()
        for number in range(1000):
            found.put(ProgressMessage(stream=f"{number}\n"))
            if number % 500 == 0:
                found.put(ProgressMessage(status=f"status {number}"))
        told = [await found.get() for _ in range(5)]
        found.put(ProgressMessage(stream="read again\n"))
        found.put(ProgressMessage(error="failed"))
        found.put(None)
        while (message := await found.get()) is not None:
            told.append(message)
        return [it.stream or it.status or it.error for it in told if it]

    clipped = "[output clipped: it is not read]\n"
    assert asyncio.run(run()) == [
        *("0\n", "status 0", "1\n", clipped, "status 500", "read again\n", "failed")
    ]
