"""What records of the history of builds name: a store of blobs that clients read.

Source: containerd api/services/content/v1/content.proto; buildkit control/control.go (Register).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from sampan.api.buildkit.calls import Metadata, Service, streaming, unary
from sampan.api.buildkit.history import Chronicle
from sampan.spec.buildkit import content_pb2 as pb
from sampan.spec.buildkit.session_methods import CONTENT

_PIECE: Final = 1 << 20


class Attachments:
    """Answers the calls of the service that read."""

    def __init__(self, chronicle: Chronicle) -> None:
        self._chronicle = chronicle

    def service(self) -> Service:
        """Return the table of its methods."""
        return Service(
            {
                f"{CONTENT}Info": unary(self.info, pb.InfoRequest, pb.InfoResponse),
                f"{CONTENT}Read": streaming(
                    self.read, pb.ReadContentRequest, pb.ReadContentResponse
                ),
            }
        )

    async def info(self, request: pb.InfoRequest, _: Metadata) -> pb.InfoResponse:
        """Return how large a blob is."""
        content = await self._chronicle.attachment(request.digest)
        return pb.InfoResponse(info=pb.Info(digest=request.digest, size=len(content)))

    async def read(
        self, request: pb.ReadContentRequest, _: Metadata
    ) -> AsyncIterator[pb.ReadContentResponse]:
        """Yield a part of a blob; a size of 0 is all that follows."""
        content = await self._chronicle.attachment(request.digest)
        at = max(request.offset, 0)
        end = at + request.size if request.size > 0 else len(content)
        for start in range(at, min(end, len(content)), _PIECE):
            piece = content[start : min(start + _PIECE, end)]
            yield pb.ReadContentResponse(offset=start, data=piece)
