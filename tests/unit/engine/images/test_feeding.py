"""Bytes into and out of the storage helper."""

from __future__ import annotations

import asyncio
import os

from sampan.engine.images.feeding import from_task


def test_a_task_that_never_began_leaves_no_pipe() -> None:
    async def work(fd: int) -> None:
        raise AssertionError("it is not asked for anything")

    async def main() -> None:
        before = os.listdir("/proc/self/fd")
        async with from_task(work):
            pass
        assert os.listdir("/proc/self/fd") == before

    asyncio.run(main())
