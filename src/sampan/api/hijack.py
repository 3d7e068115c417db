"""Attach and exec: a connection that stops being HTTP and carries the streams of a process."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any

from sampan.api.detach import Escape
from sampan.http.request import Request
from sampan.http.stream import SocketStream, Stream

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
STDIN, STDOUT, STDERR, SYSTEM = 0, 1, 2, 3
PUMP_BYTES = 256 << 10
MULTIPLEXED_SINCE = (1, 42)
HEAD_SECONDS = 10.0  # how long the first output waits for the client to read the head


def frame(stream: int, data: bytes) -> bytes:
    """Return `data` as one frame of a multiplexed stream."""
    return struct.pack(">BxxxI", stream, len(data)) + data


def stream_type(request: Request, terminal: bool) -> str:
    """Return the content type of a process' output for this client."""
    multiplexed = not terminal and request.version >= MULTIPLEXED_SINCE
    return MULTIPLEXED if multiplexed else RAW


async def take_over(request: Request, terminal: bool) -> Stream:
    """Answer as Docker does, and return the connection that now carries the streams."""
    if request.wants_upgrade:
        head = (
            "HTTP/1.1 101 UPGRADED\r\n"
            f"Content-Type: {stream_type(request, terminal)}\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n\r\n"
    return await request.take_over(head.encode())


async def head_was_read(client: Stream) -> None:
    """Wait until the client has read the head of the answer; not for long.

    docker-py reads the head through a buffer and then goes on with the bare socket: what comes
    together with the head is lost to it. A Unix socket can tell what its peer has not read.
    """
    if client.sock.family != socket.AF_UNIX:
        return
    end = asyncio.get_running_loop().time() + HEAD_SECONDS
    pause = 0.001
    while asyncio.get_running_loop().time() < end:
        try:
            unread = fcntl.ioctl(client.sock, termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):
            return  # it is gone
        if not any(unread):
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)  # one that has not read for long is busy, or will never read


async def pump(
    client: Stream,
    process: socket.socket,
    *,
    escape: Escape | None,
    eof_detaches: bool,
    convert: Callable[[bytes], bytes] | None = None,
) -> bool:
    """Carry bytes both ways until the process ends or the client leaves; close `process`.

    `escape` looks for detach keys. When the client ends its input, the process sees the end of
    its stdin, or, with `eof_detaches`, the attach is over. `convert` changes the framing of the
    output. Returns whether the user detached.
    """
    with process:
        stream = SocketStream(process)
        output = asyncio.ensure_future(_carry_output(stream, client, convert))
        input_ = asyncio.ensure_future(_carry_input(client, stream, escape, eof_detaches))
        try:
            await asyncio.wait((output, input_), return_when=asyncio.FIRST_COMPLETED)
            return not output.done() and input_.result()
        finally:
            await end_tasks(output, input_)


async def end_tasks(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _carry_output(
    process: Stream, client: Stream, convert: Callable[[bytes], bytes] | None
) -> None:
    try:
        data = await process.receive(PUMP_BYTES)
        await head_was_read(client)
        while data:
            await client.send(convert(data) if convert else data)
            data = await process.receive(PUMP_BYTES)
    except OSError:
        return


async def _carry_input(
    client: Stream, process: Stream, escape: Escape | None, eof_detaches: bool
) -> bool:
    try:
        while data := await client.receive(PUMP_BYTES):
            detached = False
            if escape is not None:
                data, detached = escape.feed(data)
            await _send_quietly(process, data)
            if detached:
                return True
        if eof_detaches:
            return False
        await process.close_write()
        await client.disconnected()
    except OSError:
        pass
    return False


async def _send_quietly(process: Stream, data: bytes) -> None:
    """Send stdin; a process that has closed it gets nothing, and that is no error."""
    try:
        if data:
            await process.send(data)
    except OSError:
        return


class Unframer:
    """Takes the frame headers out of a multiplexed stream, for clients that want bare bytes."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0  # bytes of the current frame that are still to come

    def feed(self, data: bytes) -> bytes:
        """Return the payload in `data`."""
        payload = bytearray()
        data = self._rest + data
        position = 0
        while position < len(data):
            if self._left:
                piece = data[position : position + self._left]
                payload += piece
                position += len(piece)
                self._left -= len(piece)
            elif len(data) - position < 8:
                break
            else:
                (self._left,) = struct.unpack_from(">I", data, position + 4)
                position += 8
        self._rest = data[position:]
        return bytes(payload)
