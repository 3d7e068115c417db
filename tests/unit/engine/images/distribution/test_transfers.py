"""Transfers that several wait for, and places for so many of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from sampan.engine.images.distribution.transfers import Slots, Tell, Transfers
from sampan.engine.images.reports import Report
from sampan.errors import Upstream
from tests.session import PATIENCE


class Thing:
    """The result of a transfer."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def said(report: Report) -> list[str]:
    return [message.status for message in report._waiting]


async def turn() -> None:
    """Let everything that can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


# --- places ----------------------------------------------------------------------------------


def test_no_more_than_the_limit_work_at_once_and_the_others_are_told_to_wait() -> None:
    async def main() -> None:
        slots, working, most, waited = Slots(2), 0, 0, []

        async def work(number: int) -> None:
            nonlocal working, most
            async with slots.one(lambda: waited.append(number)):
                working += 1
                most = max(most, working)
                await turn()
                working -= 1

        await asyncio.gather(*map(work, range(5)))
        assert most == 2
        assert waited == [2, 3, 4]

    run(main)


def test_without_a_limit_nobody_waits() -> None:
    async def main() -> None:
        slots = Slots(0)
        async with AsyncExitStack() as stack:
            for _ in range(100):
                await stack.enter_async_context(slots.one(lambda: pytest.fail("it waits")))

    run(main)


def test_a_larger_limit_counts_at_once() -> None:
    async def main() -> None:
        slots, entered = Slots(1), []

        async def work(number: int, until: asyncio.Event) -> None:
            async with slots.one():
                entered.append(number)
                await until.wait()

        until = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(work(number, until))
            await turn()
            assert entered == [0]
            slots.resize(3)
            await turn()
            assert entered == [0, 1, 2]
            until.set()

    run(main)


def test_who_gives_up_waiting_takes_no_place() -> None:
    async def main() -> None:
        slots = Slots(1)
        async with slots.one():
            waiting = [asyncio.ensure_future(_hold(slots)) for _ in range(3)]
            await turn()
            waiting[1].cancel()
            await turn()
        waiting[0].cancel()  # it has just got its turn, and has not run since
        await asyncio.wait(waiting)
        assert [each.cancelled() for each in waiting] == [True, True, False]
        async with asyncio.timeout(PATIENCE), slots.one():
            pass

    run(main)


async def _hold(slots: Slots) -> None:
    async with slots.one():
        await turn()


# --- sharing ---------------------------------------------------------------------------------


def test_all_who_want_the_same_share_one_transfer_and_its_messages() -> None:
    async def main() -> None:
        transfers: Transfers[Thing] = Transfers()
        started, go, thing = [], asyncio.Event(), Thing()

        async def work(tell: Tell) -> Thing:
            started.append(True)
            tell(lambda report: report.say("begun"))
            await go.wait()
            tell(lambda report: report.say("done"))
            return thing

        async def want(report: Report) -> None:
            async with transfers.sharing("key", work, report) as result:
                assert result is thing
                assert thing.closed == 0
                await turn()

        reports = [Report(), Report(), Report()]
        async with asyncio.TaskGroup() as group:
            group.create_task(want(reports[0]))
            group.create_task(want(reports[1]))
            await turn()
            group.create_task(want(reports[2]))
            await turn()
            go.set()
        assert started == [True]
        assert thing.closed == 1
        assert [said(report) for report in reports] == [["begun", "done"]] * 3

    run(main)


def test_the_transfer_goes_on_while_somebody_waits_and_ends_with_the_last() -> None:
    async def main() -> None:
        transfers: Transfers[Thing] = Transfers()
        ended: list[str] = []

        async def work(tell: Tell) -> Thing:
            try:
                await asyncio.Event().wait()
            finally:
                await turn()  # it takes a while to clean up
                ended.append("ended")
            return Thing()

        async def want() -> None:
            async with transfers.sharing("key", work, Report()):
                pass

        first, second = asyncio.ensure_future(want()), asyncio.ensure_future(want())
        await turn()
        first.cancel()
        await asyncio.wait([first])
        assert ended == []
        second.cancel()
        await asyncio.wait([second])
        assert ended == ["ended"]

    run(main)


def test_who_comes_while_the_transfer_is_being_cancelled_begins_a_new_one() -> None:
    async def main() -> None:
        transfers: Transfers[Thing] = Transfers()
        log: list[str] = []
        cleaned = asyncio.Event()

        async def slow(tell: Tell) -> Thing:
            log.append("first begins")
            try:
                await asyncio.Event().wait()
            finally:
                await cleaned.wait()
                log.append("first ends")
            return Thing()

        async def quick(tell: Tell) -> Thing:
            log.append("second begins")
            return Thing()

        async def want(work: Callable[[Tell], Coroutine[Any, Any, Thing]]) -> None:
            async with transfers.sharing("key", work, Report()):
                pass

        first = asyncio.ensure_future(want(slow))
        await turn()
        first.cancel()
        await turn()
        second = asyncio.ensure_future(want(quick))
        await turn()
        cleaned.set()
        await second
        with suppress(asyncio.CancelledError):
            await first
        assert log == ["first begins", "first ends", "second begins"]

    run(main)


def test_a_failure_is_told_to_all_and_the_next_one_tries_again() -> None:
    async def main() -> None:
        transfers: Transfers[Thing] = Transfers()
        attempts = []

        async def work(tell: Tell) -> Thing:
            attempts.append(True)
            await turn()
            if len(attempts) == 1:
                raise Upstream("broken")
            return Thing()

        async def want() -> None:
            async with transfers.sharing("key", work, Report()):
                pass

        failures = await asyncio.gather(want(), want(), return_exceptions=True)
        assert [str(failure) for failure in failures] == ["broken", "broken"]
        await want()
        assert len(attempts) == 2

    run(main)


@pytest.mark.parametrize("turns", range(8))
def test_a_failed_transfer_may_end_beside_its_successor(turns: int) -> None:
    async def main() -> None:
        transfers: Transfers[Thing] = Transfers()
        fails = asyncio.Event()

        async def work(tell: Tell) -> Thing:
            await fails.wait()
            raise Upstream("broken")

        async def wait(tell: Tell) -> Thing:
            await asyncio.Event().wait()
            return Thing()

        async def want() -> None:
            async with transfers.sharing("key", work, Report()):
                pass

        async def insist() -> None:
            with suppress(Upstream):
                await want()
            async with transfers.sharing("key", wait, Report()):
                pass

        first, second = asyncio.ensure_future(insist()), asyncio.ensure_future(want())
        await turn()
        fails.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert isinstance(second.exception(), Upstream)

    run(main)
