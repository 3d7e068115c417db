"""Stores of blobs that a client serves: its cache folders, and outputs that are folders.

Source: buildkit session/content (which store is meant), containerd
api/services/content/v1/content.proto and plugins/services/content/contentserver.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

from google.protobuf.message import Message
from grpclib.client import Stream

from sampan.api.buildkit.sessions import Session
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.buildkit import content_pb2 as pb
from sampan.spec.buildkit.session_methods import CONTENT, STORE_ID
from sampan.spec.digest import digest_of, parse_digest
from sampan.spec.image import Descriptor


class ClientStore:
    """One store of a client. What it gives is checked."""

    def __init__(self, session: Session, store: str) -> None:
        self._session, self._metadata = session, [(STORE_ID, store)]
        self._refusal = f"the client has no store {store}"

    def _call(
        self, method: str, kind: type[Any], reply: type[Any]
    ) -> AbstractAsyncContextManager[Stream[Any, Any]]:
        path = f"{CONTENT}{method}"
        if not self._session.serves(path):
            raise InvalidArgument(self._refusal)
        return self._session.exchange(path, kind, self._metadata, self._refusal, reply)

    async def size(self, digest: str) -> int:
        """Return the bytes of a blob; NotFound if it is not there."""
        async with self._call("Info", pb.InfoRequest, pb.InfoResponse) as stream:
            await stream.send_message(pb.InfoRequest(digest=digest), end=True)
            answer = await stream.recv_message()
            if answer is None:
                raise NotFound(f"the client does not say whether it has {digest}")
            return int(answer.info.size)

    async def has(self, digest: str) -> bool:
        """Tell whether a blob is there."""
        try:
            await self.size(digest)
        except NotFound:
            return False
        return True

    async def whole(self, digest: str, limit: int) -> bytes:
        """Return a small blob; NotFound, InvalidArgument if it is large or another one."""
        content = bytearray()
        async with aclosing(self._pieces(parse_digest(digest))) as pieces:
            async for piece in pieces:
                content += piece
                if len(content) > limit:
                    raise InvalidArgument(f"the client's blob {digest} is larger than {limit}")
        raw = bytes(content)
        if digest_of(raw) != digest:
            raise InvalidArgument(f"the client has another content for {digest}")
        return raw

    async def read(self, descriptor: Descriptor) -> AsyncGenerator[bytes, None]:
        """Yield a blob; InvalidArgument, at the end, if it is not what it should be."""
        digest, size = hashlib.sha256(), 0
        async with aclosing(self._pieces(descriptor.digest)) as pieces:
            async for piece in pieces:
                size += len(piece)
                if size > descriptor.size:
                    break
                digest.update(piece)
                yield piece
        if size != descriptor.size or f"sha256:{digest.hexdigest()}" != descriptor.digest:
            raise InvalidArgument(f"the client has another content for {descriptor.digest}")

    async def _pieces(self, digest: str) -> AsyncGenerator[bytes, None]:
        request = pb.ReadContentRequest(digest=digest)
        async with self._call("Read", type(request), pb.ReadContentResponse) as stream:
            await stream.send_message(request, end=True)
            while (message := await stream.recv_message()) is not None:
                yield message.data

    async def write(self, descriptor: Descriptor, pieces: Iterable[bytes]) -> None:
        """Store a blob, unless it is there."""
        if await self.has(descriptor.digest):
            return
        kind, offset = pb.WriteContentRequest, 0
        async with self._call("Write", kind, pb.WriteContentResponse) as stream:

            async def ask(message: Message, *, end: bool = False) -> Any:
                await stream.send_message(message, end=end)
                answer = await stream.recv_message()
                if answer is None:
                    raise InvalidArgument(self._refusal)
                return answer

            # What an interrupted attempt has left is cut off: we write from the beginning.
            name, total = descriptor.digest, descriptor.size
            await ask(kind(action=pb.STAT, ref=name, total=total, expected=name))
            for piece in pieces:
                await ask(kind(action=pb.WRITE, offset=offset, data=piece))
                offset += len(piece)
            last = kind(action=pb.COMMIT, offset=offset, total=offset, expected=descriptor.digest)
            if (await ask(last, end=True)).digest != descriptor.digest:
                raise InvalidArgument(f"the client has stored {descriptor.digest} as another one")
