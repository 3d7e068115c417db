"""Jobs: opened once, asked about by others, and ended with all that works for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sampan.api.buildkit import jobs as module
from sampan.api.buildkit.jobs import Job, Jobs
from sampan.api.buildkit.sessions import Sessions
from sampan.errors import InvalidArgument, NotFound


def jobs() -> Jobs:
    nobody: Any = None
    return Jobs(nobody, nobody, Sessions())


def test_whoever_asks_early_gets_the_job_when_it_is_there() -> None:
    async def run() -> None:
        known = jobs()
        asking = asyncio.ensure_future(known.find("a"))
        await asyncio.sleep(0)
        async with known.open("a") as job:
            assert await asking is job
            with pytest.raises(InvalidArgument, match="job a exists"):
                await known.open("a").__aenter__()
            assert not job.ended
        assert job.ended
        assert await known.find("a") is job

    asyncio.run(run())


def test_asking_for_a_job_that_never_comes_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        known = jobs()
        monkeypatch.setattr(module, "_PATIENCE", 0.01)
        with pytest.raises(NotFound, match="no such job a"):
            await known.find("a")
        with pytest.raises(InvalidArgument, match="a build has a ref"):
            await known.find("")
        monkeypatch.setattr(module, "_PATIENCE", 20)
        asking = asyncio.ensure_future(known.find("a"))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert known._jobs == {}

    asyncio.run(run())


def test_a_job_is_forgotten_a_little_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(module, "_MEMORY", 0)
        known = jobs()
        async with known.open("a"):
            pass
        async with asyncio.timeout(20):
            while known._jobs:
                await asyncio.sleep(0)

    asyncio.run(run())


def test_work_for_a_job_ends_with_it() -> None:
    stopped: list[str] = []

    async def work(job: Job) -> None:
        async with job.working():
            try:
                await job.client()
            finally:
                stopped.append("worker")

    async def run() -> None:
        known = jobs()
        async with known.open("a") as job:
            worker = asyncio.ensure_future(work(job))
            await asyncio.sleep(0)
        assert stopped == ["worker"]
        with pytest.raises(NotFound, match="no such job a"):
            await worker

    asyncio.run(run())


def test_work_is_answered_also_if_the_end_of_its_job_is_disturbed() -> None:
    async def work(job: Job) -> None:
        async with job.working():
            try:
                await asyncio.Future()
            finally:
                await asyncio.sleep(0.01)  # it takes a while to clean up

    async def run() -> None:
        known = jobs()

        async def solve() -> None:
            async with known.open("a") as job:
                try:
                    await asyncio.Future()
                finally:
                    await job.end()

        solving = asyncio.ensure_future(solve())
        worker = asyncio.ensure_future(work(await known.find("a")))
        for _ in range(2):
            await asyncio.sleep(0)
            solving.cancel()
        await asyncio.wait([solving], timeout=20)
        with pytest.raises(NotFound, match="no such job a"):
            await worker

    asyncio.run(run())


def test_a_worker_that_goes_takes_the_session_from_nobody() -> None:
    async def run() -> None:
        known = jobs()
        async with known.open("a") as job:
            waiting = asyncio.ensure_future(job.client())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            assert not job.session.done()

    asyncio.run(run())
