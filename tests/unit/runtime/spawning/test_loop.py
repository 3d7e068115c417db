"""The event loop of keeper and forker."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from sampan.runtime.spawning.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def test_a_deadline_whose_action_fails_takes_no_other_along(loop: Loop) -> None:
    done: list[str] = []

    def fail() -> None:
        raise OSError("the kernel refused")

    loop.later(0, fail)
    loop.later(0, lambda: done.append("after"))
    loop.turn()
    assert done == ["after"]


def test_a_handler_that_fails_is_not_asked_again(loop: Loop) -> None:
    reading, writing = os.pipe()
    calls: list[int] = []

    def fail(events: int) -> None:
        calls.append(events)
        raise OSError("the kernel refused")

    loop.watch(reading, select.EPOLLIN, fail)
    os.write(writing, b"x")
    loop.turn()
    loop.later(0, lambda: None)
    loop.turn()
    os.close(reading)
    os.close(writing)
    assert len(calls) == 1
