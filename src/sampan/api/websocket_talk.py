"""What goes through a WebSocket: the streams of a container as messages."""

from __future__ import annotations

import asyncio
import socket

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from sampan.api.detach import Escape
from sampan.api.hijack import PUMP_BYTES, Unframer, end_tasks
from sampan.engine.containers.queries import Attachment
from sampan.http.stream import SocketStream, Stream

MESSAGE_BYTES = 32 << 10  # of one message to the client


def accept(key: str) -> bytes:
    """Return the head of the answer to a client's handshake."""
    token = generate_accept_token(key.encode()).decode()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {token}\r\n\r\n"
    ).encode()


class Talk:
    """One client's WebSocket."""

    def __init__(self, stream: Stream, *, binary: bool) -> None:
        self._stream = stream
        self._binary = binary
        self._frames = Connection(ConnectionType.SERVER)
        self._unframe: Unframer | None = None

    async def run(self, attachment: Attachment, keys: bytes) -> None:
        """Carry messages both ways until one side ends, then close in good order."""
        self._unframe = None if attachment.terminal else Unframer()
        await self._send_output(attachment.backlog)
        if attachment.socket is not None:
            escape = Escape(keys) if attachment.terminal and keys else None
            await self._carry(attachment.socket, escape)
        await self._send(CloseConnection(code=1000))

    async def _carry(self, process: socket.socket, escape: Escape | None) -> None:
        streams = SocketStream(process)
        output = asyncio.ensure_future(self._carry_output(streams))
        input_ = asyncio.ensure_future(self._carry_input(streams, escape))
        try:
            await asyncio.wait((output, input_), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(output, input_)

    async def _carry_output(self, process: Stream) -> None:
        try:
            while data := await process.receive(PUMP_BYTES):
                await self._send_output(data)
        except OSError:
            return

    async def _send_output(self, data: bytes) -> None:
        if self._unframe is not None:
            data = self._unframe.feed(data)
        for start in range(0, len(data), MESSAGE_BYTES):
            piece = data[start : start + MESSAGE_BYTES]
            if self._binary:
                await self._send(BytesMessage(data=piece))
            else:
                await self._send(TextMessage(data=piece.decode("utf-8", "replace")))

    async def _carry_input(self, process: Stream, escape: Escape | None) -> None:
        try:
            while data := await self._stream.receive(PUMP_BYTES):
                self._frames.receive_data(data)
                for event in self._frames.events():
                    if not await self._take(event, process, escape):
                        return
        except (OSError, RemoteProtocolError):
            return

    async def _take(self, event: Event, process: Stream, escape: Escape | None) -> bool:
        """Act on one event; return whether to go on."""
        match event:
            case Message(data=payload):
                data = payload.encode() if isinstance(payload, str) else bytes(payload)
                detached = False
                if escape is not None:
                    data, detached = escape.feed(data)
                if data:
                    await process.send(data)
                return not detached
            case Ping():
                await self._send(event.response())
            case CloseConnection():
                return False
        return True

    async def _send(self, event: Event) -> None:
        try:
            await self._stream.send(self._frames.send(event))
        except (OSError, LocalProtocolError):
            return
