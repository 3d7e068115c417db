"""Sessions: what clients of builds serve to us while a build runs.

A client opens a connection, says which methods it serves, and then waits for calls. Builds name
the session by its id; a build may come before its session.

Source: buildkit session/manager.go (headers, waiting), session/filesync, session/secrets,
session/auth, session/sshforward.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import quote_plus

from google.protobuf.message import Message
from grpclib import server
from grpclib.client import Channel, Stream, UnaryUnaryMethod
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from h2.exceptions import H2Error

from sampan.errors import InvalidArgument, NotFound, SampanError, Unavailable
from sampan.http.grpc import Duplex, connected
from sampan.http.stream import CHUNK
from sampan.spec.buildkit import session_pb2 as pb
from sampan.spec.buildkit.control_pb2 import BytesMessage
from sampan.spec.buildkit.session_methods import (
    AGENT_ID,
    CHECK_AGENT,
    FORWARD_AGENT,
    SECRET,
    UPLOAD,
)

_PATIENCE: Final = 5.0  # seconds until a session that was named has to be there
SYNC: Final = "/moby.filesync.v1.FileSync/DiffCopy"
SEND: Final = "/moby.filesync.v1.FileSend/DiffCopy"
_PIECE: Final = 32 << 10  # bytes of a message to an agent
_CREDENTIALS: Final = "/moby.filesync.v1.Auth/Credentials"
Metadata = list[tuple[str, str]]
T = TypeVar("T", bound=Message)


@dataclass(slots=True)
class Session:
    """One client that serves its files and secrets."""

    id: str
    channel: Channel
    methods: frozenset[str]  # as paths, in lower case
    shared_key: str = ""  # the same in sessions of one client that serve the same folders

    def serves(self, method: str) -> bool:
        """Tell whether the client has said that it has a method."""
        return method.lower() in self.methods

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        kind: type[T],
        metadata: Metadata,
        refusal: str,
        reply: type[Any] | None = None,
    ) -> AsyncIterator[Stream[T, Any]]:
        """Give a call in which both sides send messages, as they like.

        The client's are of the same `kind`, or of the kind `reply`. Raises NotFound,
        InvalidArgument for what the client has against it (`refusal` if it says nothing),
        Unavailable if it goes.
        """
        try:
            async with self.channel.request(
                method, Cardinality.STREAM_STREAM, kind, reply or kind, metadata=metadata
            ) as stream:
                yield stream
        except GRPCError as error:
            raise _refused(error, refusal) from None
        except (OSError, StreamTerminatedError, H2Error):
            raise Unavailable("the client has ended its session") from None

    async def secret(self, id: str) -> bytes | None:
        """Return a secret, None if the client has none of this id."""
        try:
            answer = await self.ask(
                SECRET, pb.GetSecretRequest(ID=id), pb.GetSecretResponse, "secrets"
            )
        except NotFound:
            return None
        return bytes(answer.data)

    async def check_agent(self, id: str) -> None:
        """Raise NotFound unless the client forwards an SSH agent of this id."""
        if not self.serves(CHECK_AGENT):
            raise NotFound(f'no SSH key "{id}" forwarded from the client')
        try:
            await self.ask(
                CHECK_AGENT, pb.CheckAgentRequest(ID=id), pb.CheckAgentResponse, "SSH agent"
            )
        except InvalidArgument as error:  # clients have no status of its own for that
            raise NotFound(str(error)) from None

    async def forward(self, id: str, descriptor: int) -> None:
        """Connect a socket, which stays the caller's, with an SSH agent of the client."""
        loop = asyncio.get_running_loop()
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            sock.setblocking(False)
            metadata = [(AGENT_ID, id)]
            refusal = f"unset ssh forward key {id}"
            async with self.exchange(FORWARD_AGENT, BytesMessage, metadata, refusal) as stream:
                await stream.send_request()

                async def ask() -> None:
                    while data := await loop.sock_recv(sock, _PIECE):
                        await stream.send_message(BytesMessage(data=data))
                    await stream.end()

                asking = asyncio.ensure_future(ask())
                try:
                    while (message := await stream.recv_message()) is not None:
                        await loop.sock_sendall(sock, message.data)
                    sock.shutdown(socket.SHUT_WR)
                finally:
                    asking.cancel()
                    await asyncio.wait([asking])

    async def credentials(self, host: str) -> tuple[str, str]:
        """Return name and password for a registry; "" if the client has none."""
        if not self.serves(_CREDENTIALS):
            return "", ""
        answer = await self.ask(
            _CREDENTIALS, pb.CredentialsRequest(Host=host), pb.CredentialsResponse, "passwords"
        )
        return answer.Username, answer.Secret

    async def upload(self, name: str) -> AsyncIterator[bytes]:
        """Yield what a client has on its standard input. Raises as `exchange`."""
        if not self.serves(UPLOAD):
            raise NotFound("the client sends no archives")
        asked = [("urlpath", f"/{name}"), ("urlhost", "buildkit-session")]
        refusal = f"no http response from session for {name}"
        async with self.exchange(UPLOAD, BytesMessage, asked, refusal) as stream:
            await stream.send_request()
            await stream.end()
            while (message := await stream.recv_message()) is not None:
                yield message.data

    async def ask(self, method: str, message: Message, kind: type[T], what: str) -> T:
        """Return the answer to one call. Raises NotFound, InvalidArgument, Unavailable."""
        if not self.serves(method):
            raise NotFound(f"the client has no {what}")
        try:
            call: UnaryUnaryMethod[Message, T] = UnaryUnaryMethod(
                self.channel, method, type(message), kind
            )
            return await call(message)
        except GRPCError as error:
            raise _refused(error, f"the client has no {what}") from None
        except (OSError, StreamTerminatedError):
            raise Unavailable("the client has ended its session") from None


def _refused(error: GRPCError, refusal: str) -> SampanError:
    kind = NotFound if error.status is Status.NOT_FOUND else InvalidArgument
    return kind(error.message or refusal)


class Tunnel:
    """A session inside of a call: the bytes of its connection are messages; see http.stream.Stream.

    Source: buildkit session/grpchijack.
    """

    def __init__(self, stream: server.Stream[BytesMessage, BytesMessage]) -> None:
        self._stream = stream
        self._rest = b""

    async def receive(self, size: int = CHUNK) -> bytes:
        """Return the next bytes; b"" when the client sends no more."""
        while not self._rest:
            message = await self._stream.recv_message()
            if message is None:
                return b""
            self._rest = message.data
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    async def send(self, *parts: bytes) -> None:
        """Send all bytes."""
        await self._stream.send_message(BytesMessage(data=b"".join(parts)))


@dataclass(slots=True)
class Sessions:
    """All sessions that are open."""

    _open: dict[str, Session] = field(default_factory=dict)
    _arrival: asyncio.Event = field(default_factory=asyncio.Event)  # of the next one

    async def keep(
        self, id: str, methods: Iterable[str], stream: Duplex, shared_key: str = ""
    ) -> None:
        """Hold a session open until its client leaves."""
        if not id:
            raise InvalidArgument("a session has an id")
        async with connected(stream) as (channel, ended):
            if id in self._open:
                raise InvalidArgument(f"session {id} is already there")
            known = frozenset(it.lower() for it in methods)
            self._open[id] = Session(id, channel, known, shared_key)
            self._arrival.set()
            self._arrival = asyncio.Event()
            try:
                await asyncio.wait([ended])
            finally:
                del self._open[id]

    async def find(self, id: str) -> Session:
        """Return a session, waiting for it a little; raises NotFound."""
        if not id:
            raise InvalidArgument("a session has an id")
        try:
            async with asyncio.timeout(_PATIENCE):
                while id not in self._open:
                    await self._arrival.wait()
        except TimeoutError:
            raise NotFound(f"no active session for {id}: context deadline exceeded") from None
        return self._open[id]


def encoded(key: str, values: Iterable[str]) -> Metadata:
    """Return header fields for values of any letters. Source: filesync.go, encodeOpts."""
    values = list(values)
    if all(it.isascii() and it.isprintable() and "%" not in it for it in values):
        return [(key, it) for it in values]
    return [*((key, quote_plus(it)) for it in values), (f"{key}-encoded", "1")]
