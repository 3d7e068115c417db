"""Bytes into and out of the storage helper: pipes between it and this process.

A cancelled or failed call closes its pipe first and then waits for the helper, which ends when
its pipe does: so nothing is closed under it, and nobody waits for what never comes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar

from sampan.engine.blocking import in_own_thread
from sampan.engine.undisturbed import ended

T = TypeVar("T")
PIPE: Final = 1 << 20  # bytes; what anybody may ask for: /proc/sys/fs/pipe-max-size
CHUNK: Final = 256 << 10  # bytes read at once: larger pieces make the heap grow, and nothing faster


def wide_pipe() -> tuple[int, int]:
    """Return both ends of a pipe, for reading and for writing, as wide as it may be."""
    read, write = os.pipe2(os.O_CLOEXEC)
    with suppress(OSError):  # the user has many already: a narrow one works, too
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE)
    return read, write


async def through_pipe(chunks: AsyncIterable[bytes], func: Callable[[int], T]) -> T:
    """Return what `func` returns, called in a thread with a pipe that gives `chunks`.

    What goes wrong with `chunks` is raised, whatever `func` made of their untimely end.
    """
    read, write = wide_pipe()
    feeding = asyncio.ensure_future(_feed(write, chunks))
    call = asyncio.ensure_future(in_own_thread(func, read))
    try:
        result = await asyncio.shield(call)
    except BaseException as error:
        feeding.cancel()
        await ended(feeding, call)
        os.close(read)
        if not feeding.cancelled() and (cause := feeding.exception()):
            raise cause from error
        raise
    os.close(read)
    await feeding
    return result


async def _feed(fd: int, chunks: AsyncIterable[bytes]) -> None:
    """Write everything that comes to a pipe, as long as somebody reads it, and close it."""
    try:
        os.set_blocking(fd, False)
        async for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                try:
                    rest = rest[os.write(fd, rest) :]
                except BlockingIOError:
                    await _ready(fd, writing=True)
    except BrokenPipeError:
        pass  # the reader says why
    finally:
        os.close(fd)


async def _ready(fd: int, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not ready.done():
            ready.set_result(None)

    (loop.add_writer if writing else loop.add_reader)(fd, settle)
    try:
        await ready
    finally:
        (loop.remove_writer if writing else loop.remove_reader)(fd)


@asynccontextmanager
async def from_pipe(func: Callable[[int], object]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give what `func` writes to the pipe that it is called with, in a thread.

    What it raises is raised at the end of the bytes.
    """
    read, write = wide_pipe()

    def run() -> None:
        try:
            func(write)
        finally:
            os.close(write)

    call = asyncio.ensure_future(in_own_thread(run))
    try:
        yield _pieces(read, call)
    finally:
        os.close(read)  # then the writer stops: nobody reads
        await ended(call)


@asynccontextmanager
async def from_task(
    work: Callable[[int], Coroutine[Any, Any, object]],
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give what a coroutine writes to the pipe (which never blocks it) that it is called with."""
    read, write = wide_pipe()
    os.set_blocking(write, False)

    task = asyncio.ensure_future(work(write))
    task.add_done_callback(lambda _: os.close(write))
    try:
        yield _pieces(read, task)
    finally:
        task.cancel()
        await ended(task)
        os.close(read)


async def _pieces(fd: int, call: asyncio.Future[Any]) -> AsyncIterator[bytes]:
    os.set_blocking(fd, False)
    while True:
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            await _ready(fd, writing=False)
            continue
        if not data:
            break
        yield data
    await asyncio.shield(call)
