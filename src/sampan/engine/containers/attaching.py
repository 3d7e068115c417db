"""Connecting clients with the streams of a container."""

from __future__ import annotations

import socket

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.engine.containers.logs import Logs
from sampan.engine.containers.notices import Notices
from sampan.engine.containers.queries import Attachment, AttachQuery, LogsQuery
from sampan.errors import Conflict
from sampan.runtime.spawner import Spawner


class Attaching:
    """Attach, detach, resize. Source: moby daemon/attach.go, resize.go."""

    def __init__(self, spawner: Spawner, logs: Logs, notices: Notices) -> None:
        self._spawner, self._logs, self._notices = spawner, logs, notices

    async def attach(self, container: Container, query: AttachQuery) -> Attachment:
        """Connect a client, before the start or while the container runs."""
        await container.settled()  # else its streams would be those of the run that is over
        if container.running and container.record.paused:
            raise Conflict(
                f"container {container.id} is paused, unpause the container before attach"
            )
        if container.restarting:
            raise Conflict(
                f"container {container.id} is restarting, wait until the container is running"
            )
        attachment = Attachment(socket=None, terminal=container.config.tty)
        if query.stream:
            fd = await blocking(
                self._spawner.attach,
                container.id,
                stdin=query.stdin and container.config.open_stdin,
                stdout=query.stdout,
                stderr=query.stderr,
            )
            attachment.socket = socket.socket(fileno=fd.detach())
        if query.logs and (query.stdout or query.stderr):
            wanted = LogsQuery(stdout=query.stdout, stderr=query.stderr)
            _, content = self._logs.read(container, wanted)
            attachment.backlog = b"".join([block async for block in content])
        self._notices.container(container, "attach")
        return attachment

    def detached(self, container: Container) -> None:
        """Tell that a client left by its detach keys."""
        self._notices.container(container, "detach")

    async def resize(self, container: Container, rows: int, columns: int) -> None:
        """Set the size of the terminal of a running container."""
        if not container.running:
            raise Conflict(f"container {container.id} is not running")
        await blocking(self._spawner.resize, container.id, rows=rows, columns=columns)
        self._notices.container(container, "resize", height=str(rows), width=str(columns))
