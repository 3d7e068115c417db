"""Execs: further processes in running containers."""

from __future__ import annotations

from sampan.engine.attachment import Attachment
from sampan.spec.docker.exec import ExecCreateRequest, ExecInspect, ExecStartRequest


class Execs:
    """The execs of this engine; they live as long as their container runs."""

    async def create(self, container: str, request: ExecCreateRequest) -> str:
        """Prepare a process in a running container; return its id."""

    async def start(self, id: str, request: ExecStartRequest) -> Attachment | None:
        """Start it; None if detached. `request.tty` must be what was created."""

    async def terminal(self, id: str) -> bool:
        """Tell whether the exec was created with a terminal."""

    async def detached(self, id: str) -> None:
        """Note that the client left by its detach keys. Emits `exec_detach`."""

    async def resize(self, id: str, rows: int, columns: int) -> None: ...
    async def inspect(self, id: str) -> ExecInspect: ...
