"""Events reach those who listen, and are remembered for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from sampan.engine.events import REMEMBERED, Events
from sampan.errors import InvalidArgument
from sampan.spec.docker.events import EventMessage

ID = "a" * 64


async def actions(found: AsyncIterator[EventMessage]) -> list[str]:
    return [event.action async for event in found]


def test_a_listener_hears_what_comes_after_it_subscribed() -> None:
    async def listen() -> list[str]:
        events = Events()
        events.publish("container", "create", ID, {})
        found = events.subscribe()
        events.publish("container", "start", ID, {})
        waiting = asyncio.ensure_future(anext(found))  # type: ignore[arg-type]
        heard = (await waiting).action
        later = asyncio.ensure_future(anext(found))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        events.publish("container", "die", ID, {})
        return [heard, (await later).action]

    assert asyncio.run(listen()) == ["start", "die"]


def test_since_and_until_replay_the_past_and_end() -> None:
    async def replay() -> list[str]:
        events = Events()
        for action in ("create", "start", "die"):
            events.publish("container", action, ID, {})
        now = time.time_ns()
        return await actions(events.subscribe(since=1, until=now))

    assert asyncio.run(replay()) == ["create", "start", "die"]


def test_an_end_in_the_future_ends_the_stream_in_time() -> None:
    async def wait() -> list[str]:
        events = Events()
        events.publish("container", "start", ID, {})
        found = events.subscribe(since=1, until=time.time_ns() + 20_000_000)
        heard = await actions(found)
        assert events.listeners == 0
        return heard

    assert asyncio.run(wait()) == ["start"]


def test_only_so_many_events_are_remembered() -> None:
    async def replay() -> list[str]:
        events = Events()
        for number in range(REMEMBERED + 10):
            events.publish("container", f"action {number}", ID, {})
        return await actions(events.subscribe(since=1, until=time.time_ns()))

    heard = asyncio.run(replay())
    assert len(heard) == REMEMBERED
    assert heard[0] == "action 10"


@pytest.mark.parametrize(
    ("filters", "heard"),
    [
        ({"event": ["exec_create"]}, ["exec_create: ls"]),
        ({"type": ["image"]}, ["pull"]),
        ({"container": ["aaaa"]}, ["start", "exec_create: ls"]),
        ({"container": ["web"]}, ["start", "exec_create: ls"]),
        ({"image": ["busybox"]}, ["start", "exec_create: ls", "pull"]),
        ({"label": ["team=blue"]}, ["start"]),
        ({"container": ["other"]}, []),
    ],
)
def test_filters_choose_events(filters: dict[str, list[str]], heard: list[str]) -> None:
    async def replay() -> list[str]:
        events = Events()
        own = {"image": "busybox:latest", "name": "web"}
        events.publish("container", "start", ID, {**own, "team": "blue"})
        events.publish("container", "exec_create: ls", ID, own)
        events.publish("image", "pull", "busybox:latest", {"name": "busybox"})
        return await actions(events.subscribe(since=1, until=time.time_ns(), filters=filters))

    assert asyncio.run(replay()) == heard


def test_an_unknown_filter_is_refused_before_the_first_event() -> None:
    with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
        Events().subscribe(filters={"colour": ["red"]})


def test_no_two_events_have_the_same_time() -> None:
    async def replay() -> list[int]:
        events = Events()
        for _ in range(100):
            events.publish("container", "start", ID, {})
        found = events.subscribe(since=1, until=time.time_ns() + 1000)
        return [event.time_nano async for event in found]

    times = asyncio.run(replay())
    assert times == sorted(set(times))
