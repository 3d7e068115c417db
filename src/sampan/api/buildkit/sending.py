"""Results that go to the client through its session: a folder of files, or an archive of them.

A folder goes as file sync sends it: all names first, then the contents that the client asks for.

Source: buildkit session/filesync/filesync.go (FileSend), tonistiigi/fsutil receive.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from google.protobuf.message import Message
from grpclib.client import Stream
from grpclib.exceptions import StreamTerminatedError

from sampan.api.buildkit.filemodes import stat_of
from sampan.api.buildkit.sessions import SEND, Session
from sampan.build.files.tree import File, Tree, walk
from sampan.errors import InvalidArgument
from sampan.spec.buildkit.session_pb2 import BytesMessage, Packet
from sampan.storage.archives.tar_fields import REGULAR

_EXPORTER: Final = "buildkit-attachable-exporter-id"
_PIECE: Final = 256 << 10
T = TypeVar("T", bound=Message)


async def send_folder(session: Session, exporter: int, tree: Tree) -> None:
    """Write the files of a tree into the folder of a client's output. Raises Unavailable."""
    async with _output(session, exporter, Packet) as stream:
        await _Folder(stream, tree).run()


async def send_file(session: Session, exporter: int, pieces: AsyncIterable[bytes]) -> None:
    """Write bytes into the file of a client's output. Raises Unavailable."""
    async with _output(session, exporter, BytesMessage) as stream:
        async for piece in pieces:
            await stream.send_message(BytesMessage(data=piece))
        await stream.end()
        if await stream.recv_message() is not None:
            raise InvalidArgument("the client answers what it was not asked")


@asynccontextmanager
async def _output(session: Session, exporter: int, kind: type[T]) -> AsyncIterator[Stream[T, T]]:
    if not session.serves(SEND):
        raise InvalidArgument("the client takes no files")
    metadata = [(_EXPORTER, str(exporter))]
    refusal = "the client cannot take its files"
    async with session.exchange(SEND, kind, metadata, refusal) as stream:
        await stream.send_request()
        yield stream


class _Folder:
    """One folder on its way to a client."""

    def __init__(self, stream: Stream[Packet, Packet], tree: Tree) -> None:
        self._stream, self._spool = stream, tree.spool
        self._files = list(walk(tree.root))
        self._wanted: asyncio.Queue[int | None] = asyncio.Queue()
        self._sending = asyncio.Lock()  # a large message is sent in parts

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for work in (self._names(), self._contents(), self._listen()):
                    group.create_task(work)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        await self._stream.send_message(Packet(type=Packet.PACKET_FIN), end=True)

    async def _send(self, packet: Packet) -> None:
        async with self._sending:
            await self._stream.send_message(packet)

    async def _names(self) -> None:
        seen: dict[int, bytes] = {}
        for path, file in self._files:
            first = seen.setdefault(id(file), path) if file.kind == REGULAR else path
            stat = stat_of(path, file, first if first != path else b"")
            await self._send(Packet(type=Packet.PACKET_STAT, stat=stat))
        await self._send(Packet(type=Packet.PACKET_STAT))

    async def _listen(self) -> None:
        while True:
            packet = await self._stream.recv_message()
            if packet is None:
                raise StreamTerminatedError("no more comes")  # unless the trailers have an error
            if packet.type == Packet.PACKET_ERR:
                raise InvalidArgument(packet.data.decode("utf-8", "replace"))
            if packet.type == Packet.PACKET_REQ:
                self._wanted.put_nowait(packet.ID)
            if packet.type == Packet.PACKET_FIN:
                self._wanted.put_nowait(None)
                return

    async def _contents(self) -> None:
        while (number := await self._wanted.get()) is not None:
            if number >= len(self._files):
                raise InvalidArgument(f"there is no file {number}")
            await self._content(number, self._files[number][1])

    async def _content(self, number: int, file: File) -> None:
        for piece in self._spool.whole(file, _PIECE):
            await self._send(Packet(type=Packet.PACKET_DATA, ID=number, data=piece))
        await self._send(Packet(type=Packet.PACKET_DATA, ID=number))
