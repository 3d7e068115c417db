"""What a build may use of its client: secrets, SSH agents, folders, images of OCI layouts.

A folder is one archive, made while it is sent. Source: buildkit session/secrets,
session/sshforward, session/upload, session/content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from sampan.client.calls import Call
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.buildkit import content_pb2, session_pb2
from sampan.spec.buildkit.session_methods import (
    CHECK_AGENT,
    CONTENT,
    FORWARD_AGENT,
    SECRET,
    STORE_ID,
    UPLOAD,
)

_READ: Final = f"{CONTENT}Read"
_PATH: Final = "urlpath"
_DEFAULT: Final = "default"


class Blobs(Protocol):
    """A store of blobs."""

    def read(self, digest: str, offset: int) -> Iterator[bytes]:
        """Yield a blob from a place on; NotFound, InvalidArgument."""


@dataclass(frozen=True, slots=True)
class Lent:
    """What a build may use."""

    secrets: Mapping[str, Callable[[], bytes]] = field(default_factory=dict, repr=False)
    agents: Mapping[str, str] = field(default_factory=dict)  # paths of sockets, by id
    folders: Mapping[str, Callable[[], Iterator[bytes]]] = field(default_factory=dict)  # archives
    stores: Mapping[str, Blobs] = field(default_factory=dict)

    def methods(self) -> list[str]:
        """Return the paths of the calls that we answer."""
        return [
            *([SECRET] if self.secrets else []),
            *([CHECK_AGENT, FORWARD_AGENT] if self.agents else []),
            *([UPLOAD] if self.folders else []),
            *([_READ] if self.stores else []),
        ]

    def answer(self, call: Call, message: bytes) -> None:
        """Answer the message of a call, but one to an agent. NotFound, InvalidArgument, OSError."""
        if call.method == SECRET:
            self._secret(call, session_pb2.GetSecretRequest.FromString(message).ID)
        elif call.method == CHECK_AGENT:
            self.agent(session_pb2.CheckAgentRequest.FromString(message).ID)
            call.send(b"")
            call.finish()
        elif call.method == _READ:
            request = content_pb2.ReadContentRequest.FromString(message)
            call.stream(self._blob(call.headers.get(STORE_ID, ""), request))

    def pull(self, call: Call) -> None:
        """Send a folder. NotFound."""
        name = call.headers.get(_PATH, "").removeprefix("/")
        if name not in self.folders:
            raise NotFound(f"there is no folder {name}")
        pieces = self.folders[name]()
        call.stream(session_pb2.BytesMessage(data=one).SerializeToString() for one in pieces)

    def agent(self, name: str) -> str:
        """Return the path of the socket of an agent; InvalidArgument."""
        name = name or _DEFAULT
        if name not in self.agents:
            raise InvalidArgument(f"unset ssh forward key {name}")
        return self.agents[name]

    def _secret(self, call: Call, name: str) -> None:
        if name not in self.secrets:
            raise NotFound(f"secret {name}: not found")
        answer = session_pb2.GetSecretResponse(data=self.secrets[name]())
        call.send(answer.SerializeToString())
        call.finish()

    def _blob(self, store: str, request: content_pb2.ReadContentRequest) -> Iterator[bytes]:
        blobs = self.stores.get(store.removeprefix("oci:"))
        if blobs is None:
            raise NotFound(f"there is no store {store}")
        offset = max(request.offset, 0)
        for piece in blobs.read(request.digest, offset):
            answer = content_pb2.ReadContentResponse(offset=offset, data=piece)
            offset += len(piece)
            yield answer.SerializeToString()
