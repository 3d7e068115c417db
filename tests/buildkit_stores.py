"""Stores of blobs that a client of BuildKit's API serves: folders with `blobs/sha256`.

They answer as containerd's content service does, with whatever lies in the folders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from sampan.spec.buildkit import content_pb2 as pb

_SERVICE = "/containerd.services.content.v1.Content/"


@dataclass(frozen=True, slots=True)
class Stores:
    """Folders by the names that they are asked for by."""

    folders: Mapping[str, Path]

    def __mapping__(self) -> dict[str, Handler]:
        if not self.folders:
            return {}
        both = Cardinality.STREAM_STREAM
        return {
            f"{_SERVICE}Info": Handler(
                self.info, Cardinality.UNARY_UNARY, pb.InfoRequest, pb.InfoResponse
            ),
            f"{_SERVICE}Read": Handler(
                self.read, Cardinality.UNARY_STREAM, pb.ReadContentRequest, pb.ReadContentResponse
            ),
            f"{_SERVICE}Write": Handler(
                self.write, both, pb.WriteContentRequest, pb.WriteContentResponse
            ),
        }

    def _blob(self, stream: Stream[Any, Any], digest: str) -> Path:
        metadata: Any = stream.metadata
        store = metadata["buildkit-attachable-store-id"]
        if store not in self.folders:
            raise GRPCError(Status.NOT_FOUND, f"unknown store {store}")
        return self.folders[store] / "blobs" / digest.replace(":", "/")

    async def info(self, stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        path = self._blob(stream, request.digest)
        if not path.is_file():
            raise GRPCError(Status.NOT_FOUND, f"content {request.digest}: not found")
        info = pb.Info(digest=request.digest, size=path.stat().st_size)
        await stream.send_message(pb.InfoResponse(info=info))

    async def read(self, stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        path = self._blob(stream, request.digest)
        if not path.is_file():
            raise GRPCError(Status.NOT_FOUND, f"content {request.digest}: not found")
        await stream.send_message(pb.ReadContentResponse(data=path.read_bytes()))

    async def write(self, stream: Stream[Any, Any]) -> None:
        content, path = b"", Path()
        async for request in stream:
            if request.action == pb.STAT:
                path = self._blob(stream, request.expected)
            content += request.data
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            answer = pb.WriteContentResponse(
                action=request.action, offset=len(content), digest=digest
            )
            if request.action == pb.COMMIT:
                assert digest == request.expected
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            await stream.send_message(answer)
