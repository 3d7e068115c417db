"""Folders of a client, fetched through its session into a tree.

The client walks its folder and sends what each file is; we ask for the contents that we want, and
they come in pieces, several files at once. The space of a content is set aside when it is asked
for, so pieces of different files need not wait for each other.

Source: tonistiigi/fsutil send.go, receive.go, types/wire.proto.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError
from grpclib.client import Stream
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import H2Error

from sampan.api.buildkit.filemodes import file_of
from sampan.api.buildkit.sessions import SYNC, Metadata, Session, encoded
from sampan.build.contexts.kept import Transfer
from sampan.build.files.tree import File, Tree
from sampan.errors import InvalidArgument, NotFound, Unavailable
from sampan.http.grpc import Bulk
from sampan.spec.buildkit import session_pb2 as pb
from sampan.storage.archives.tar_fields import MAX_SIZE, REGULAR

_FILES: Final = 4_000_000  # in one folder; more is no build context
_STEP: Final = 1 << 20  # bytes between two reports
_NOTHING: Final = hashlib.sha256().digest()
Packet = pb.Packet
Advance = Callable[[int, bool], None]


@dataclass(frozen=True, slots=True)
class Folder:
    """Which files of which folder are wanted."""

    name: str
    exclude: Sequence[str] = ()
    follow: Sequence[str] = ()

    def metadata(self) -> Metadata:
        """Return the header fields that say so."""
        return [
            *encoded("dir-name", [self.name]),
            *encoded("exclude-patterns", self.exclude),
            *encoded("followpaths", self.follow),
        ]


@dataclass(slots=True)
class _Coming:
    """A content on its way."""

    file: File
    path: str
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    received: int = 0


def _silent(received: int, done: bool) -> None:
    """Tell nobody."""


async def fetch(
    session: Session,
    folder: Folder,
    tree: Tree,
    advance: Advance = _silent,
    transfer: Transfer | None = None,
) -> None:
    """Put the files of a client's folder into a tree; `advance` hears of bytes, and of the end.

    What `transfer` has from before is not asked for.

    Raises NotFound if the client serves no such folder, InvalidArgument for a file that changes
    while it is read, Unavailable if the client goes.
    """
    if not session.serves(SYNC):
        raise NotFound("the client serves no files: no local sources enabled")
    refusal = "the client cannot send its files"
    async with session.exchange(SYNC, Packet, folder.metadata(), refusal) as stream:
        await _Receiving(stream, tree, advance, transfer).run()


class _Receiving:
    """One folder on its way."""

    def __init__(
        self,
        stream: Stream[Packet, Packet],
        tree: Tree,
        advance: Advance,
        transfer: Transfer | None,
    ) -> None:
        self._stream, self._tree, self._advance = stream, tree, advance
        self._transfer = transfer
        self._received = self._told = 0  # bytes
        self._number = 0  # of the next file
        self._coming: dict[int, _Coming] = {}
        self._wanted: list[Packet] = []
        self._wants = asyncio.Event()
        self._named_all = self._complete = False
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        bulk = Bulk(self._stream, self._take, self._fail)
        await bulk.open()
        # Asking waits while the client is busy sending, and must not keep us from receiving.
        asking = asyncio.ensure_future(self._ask(bulk))
        watching = asyncio.ensure_future(self._watch())
        try:
            await self._ended
        finally:
            bulk.close()
            for task in (asking, watching):
                task.cancel()
            await asyncio.wait([asking, watching])

    def _fail(self, error: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    async def _ask(self, bulk: Bulk) -> None:
        try:
            while True:
                await self._wants.wait()
                self._wants.clear()
                asked, self._wanted = self._wanted, []
                if asked[-1].type == Packet.PACKET_FIN:
                    await self._stream.send_message(asked[-1], end=True)
                    return
                await bulk.send(asked)
        except (OSError, StreamTerminatedError, H2Error) as error:
            self._fail(error)

    async def _watch(self) -> None:
        """Notice the end of the call: its messages go to `_take`."""
        try:
            await self._stream.recv_message()
            raise StreamTerminatedError("no more comes")  # unless the trailers have an error
        except (OSError, GRPCError, StreamTerminatedError) as error:
            self._fail(error)

    def _want(self, packet: Packet) -> None:
        self._wanted.append(packet)
        self._wants.set()

    def _take(self, message: bytes) -> None:
        try:
            packet = Packet.FromString(message)
        except DecodeError:
            raise InvalidArgument("the client sent what is no message of file sync") from None
        if packet.type == Packet.PACKET_STAT:
            self._take_stat(packet)
        elif packet.type == Packet.PACKET_DATA:
            self._take_data(packet)
        elif packet.type == Packet.PACKET_ERR:
            raise InvalidArgument(packet.data.decode("utf-8", "replace"))
        elif packet.type == Packet.PACKET_FIN:
            self._take_end()
        if self._named_all and not self._coming and not self._complete:
            self._complete = True
            self._want(Packet(type=Packet.PACKET_FIN))

    def _take_end(self) -> None:
        if not self._complete:
            raise InvalidArgument("the client ended before all of its files were there")
        if not self._ended.done():
            self._advance(self._received, True)
            self._ended.set_result(None)

    def _take_stat(self, packet: Packet) -> None:
        if not packet.HasField("stat"):
            self._named_all = True
            return
        if self._named_all:
            raise InvalidArgument("the client names more files after the last one")
        number, stat = self._number, packet.stat
        self._number += 1
        if number > _FILES:
            raise InvalidArgument(f"the build context has more than {_FILES} files")
        file = file_of(stat)
        path = stat.path.encode("utf-8", "surrogateescape")
        if file is None:
            return  # a socket: nothing that an image can have
        if file.kind == REGULAR and stat.linkname:
            target = stat.linkname.encode("utf-8", "surrogateescape")
            self._tree.link(path, target)
            return
        if file.kind == REGULAR:
            if not 0 <= stat.size <= MAX_SIZE:
                raise InvalidArgument(f"{stat.path}: {stat.size} is no size of a file")
            if self._transfer and self._transfer.find(path, file):
                self._transfer.add(path, file)
            else:
                self._expect(number, stat.path, file)
        self._tree.graft(path, file)

    def _expect(self, number: int, path: str, file: File) -> None:
        file.at, file.digest = self._tree.spool.reserve(file.size), _NOTHING
        if file.size:
            self._coming[number] = _Coming(file, path)
            self._want(Packet(type=Packet.PACKET_REQ, ID=number))

    def _take_data(self, packet: Packet) -> None:
        coming = self._coming.get(packet.ID)
        if coming is None:
            raise InvalidArgument("the client sent a file that it was not asked for")
        file, data = coming.file, packet.data
        if data and coming.received + len(data) <= file.size:
            coming.digest.update(data)
            try:
                self._tree.spool.put(file.at + coming.received, data)
            except OSError as error:  # ours: the client is still there
                raise Unavailable(f"cannot keep {coming.path}: {error.strerror}") from error
            coming.received += len(data)
            self._received += len(data)
            if self._received - self._told >= _STEP:
                self._told = self._received
                self._advance(self._received, False)
            return
        if data or coming.received != file.size:
            raise InvalidArgument(f"{coming.path}: file changed while it was sent")
        file.stored, file.digest = coming.received, coming.digest.digest()
        del self._coming[packet.ID]
        if self._transfer:
            self._transfer.add(coming.path.encode("utf-8", "surrogateescape"), file)
