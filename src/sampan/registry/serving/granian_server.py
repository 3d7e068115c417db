"""The server for TLS and HTTP/2: granian inside our event loop (docs/decisions/029).

It serves on a socket of ours, and reads keys that are in no folder: beside its documented interface
we replace `_init_shared_socket` and `build_ssl_context`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from typing import Any, Self

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server as Granian
from starlette.types import ASGIApp

from sampan.http.limits import Limits
from sampan.http.peers import Turns
from sampan.http.tls import TLS, Clients
from sampan.registry.serving.bounded import Bounded
from sampan.registry.serving.crowd import Crowd, connections, end
from sampan.registry.serving.server import BACKLOG, LIMITS

FRAME = 1 << 20  # of HTTP/2: with the usual 16 KiB an upload is 64 times as many messages
STREAMS = 32  # of one connection at once; skopeo uses six, containerd some more
UNSENT = 64 << 10  # bytes that wait for the client, for each stream
LOOK_SECONDS = 1.0  # between looks at who is there


class _Granian(Granian):
    """Granian on a socket that is there already."""

    def __init__(
        self, listener: socket.socket, application: ASGIApp, tls: TLS | None, **rest: Any
    ) -> None:
        self._tls = tls
        self._files: list[tuple[_MemoryFile | None, ...]] = []  # that workers read at their start
        super().__init__(application, interface=Interfaces.ASGINL, **rest)
        self._listener = listener
        self._leaving: list[Any] = []  # workers that accept nobody any more

    def _init_shared_socket(self) -> None:
        uds = self._listener.family == socket.AF_UNIX
        make: Any = SocketHolder
        holder = make(os.dup(self._listener.fileno()), uds, BACKLOG)
        self._shd, self._sfd = holder, holder.get_fd()
        self._ssp = None

    def build_ssl_context(self, *_: Any) -> None:
        """Say what the workers read, in place of files' names."""
        tls = self._tls
        self.ssl_ctx: tuple[Any, ...]
        if tls is None:
            self.ssl_ctx = (False, None, None, None, str(SSLProtocols.tls12), None, [], False)
            return
        chain, key = _MemoryFile(tls.chain), _MemoryFile(tls.key)
        asked = tls.clients in (Clients.IF_GIVEN, Clients.VERIFY)
        authorities = _MemoryFile(tls.authorities) if asked else None
        # A worker that just begins may still read those of before.
        self._files = [(chain, key, authorities), *self._files[:1]]
        self.ssl_ctx = (
            *(True, chain.path, key.path, None, str(SSLProtocols(tls.minimum))),
            authorities.path if authorities else None,
            *([], tls.clients is Clients.VERIFY),
        )

    def renew(self, tls: TLS) -> None:
        """Serve new connections with other certificates."""
        self._tls = tls
        self.build_ssl_context()
        self.reload()  # type: ignore[no-untyped-call]

    def move(self, listener: socket.socket) -> None:
        """Accept on another socket, and no longer on that of before."""
        self._listener = listener
        self.reload()  # type: ignore[no-untyped-call]

    async def _respawn_workers(
        self, workers: Any, spawn_target: Any, target_loader: Any, delay: float = 0
    ) -> None:
        """Begin anew; what was begun before ends by itself.

        Granian itself waits a second, and ends the whole server if a client takes longer.
        """
        for index in list(workers):
            self._init_shared_socket()  # a worker that ends closes the one that it was given
            old = self.wrks.pop(index)
            new = self._spawn_worker(idx=index, target=spawn_target, callback_loader=target_loader)
            new.start()  # type: ignore[no-untyped-call]
            self.wrks.insert(index, new)
            old.terminate()  # type: ignore[no-untyped-call]
            self._leaving = [one for one in (*self._leaving, old) if not one._task.done()]

    async def _stop_workers(self) -> None:
        """End all workers; those whose clients take too long are cut off."""
        every = [*self.wrks, *self._leaving]
        for worker in self.wrks:
            worker.terminate()  # type: ignore[no-untyped-call]
        tasks = [worker._task for worker in every if worker._task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.workers_kill_timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self.wrks.clear()


class _MemoryFile:
    """A file without a name, for keys that must not outlive this process on a disk."""

    def __init__(self, content: bytes) -> None:
        self._descriptor = os.memfd_create("sampan-registry-tls", os.MFD_CLOEXEC)
        with open(self._descriptor, "wb", closefd=False) as file:
            file.write(content)

    @property
    def path(self) -> str:
        """What this process can open it by."""
        return f"/proc/self/fd/{self._descriptor}"

    def __del__(self) -> None:
        os.close(self._descriptor)


class GranianServer:
    """Serves an application with TLS, HTTP/2 or both."""

    def __init__(
        self,
        application: ASGIApp,
        listener: socket.socket,
        *,
        tls: TLS | None = None,
        http2: bool = True,
        limits: Limits = LIMITS,
    ) -> None:
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._crowd = Crowd(limits)
        self._port = _port(listener)
        self._granian = _Granian(
            listener,
            Bounded(application, self._crowd, Turns(limits.requests)),
            tls,
            http=HTTPModes.auto if http2 else HTTPModes.http1,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(limits.head_seconds * 1000),
                max_buffer_size=limits.head_bytes,
            ),
            http2_settings=HTTP2Settings(
                max_frame_size=FRAME,
                initial_stream_window_size=4 * FRAME,
                initial_connection_window_size=16 * FRAME,
                max_headers_size=limits.head_bytes,
                max_concurrent_streams=STREAMS,
                max_send_buffer_size=UNSENT,
            ),
            runtime_threads=2,
            websockets=False,
            backlog=BACKLOG,
            # More than may stay: those who are too many are ended, and nobody waits at the door.
            backpressure=limits.connections + limits.connections // 4 + BACKLOG,
            log_enabled=False,
        )
        self._granian.workers_kill_timeout = max(1, int(limits.grace_seconds))

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._granian.serve())
        if self._port:
            self._looking = asyncio.create_task(self._look())
        return self

    async def _look(self) -> None:
        """End connections that say nothing, or that are too many, again and again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            seen = await asyncio.to_thread(lambda: list(connections(self._port)))
            for sight in self._crowd.superfluous(seen, time.monotonic()):
                end(sight, self._port)

    async def ended(self) -> None:
        """Return when the server has stopped; raise what stopped it."""
        if self._task:
            await asyncio.shield(self._task)

    def renew(self, tls: TLS) -> None:
        """Read certificates anew; connections that are there keep what they have."""
        self._granian.renew(tls)

    def move(self, listener: socket.socket) -> None:
        """Accept clients on another socket, and no longer on that of before."""
        self._granian.move(listener)

    def stop(self) -> None:
        """Accept no more clients and end when those who are there have been served."""
        self._granian.stop()  # type: ignore[no-untyped-call]

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        if self._task:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._looking:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking


def _port(listener: socket.socket) -> int:
    """Return the port of a listening socket; 0 for one on a path, whose clients have no names."""
    name = listener.getsockname()
    return int(name[1]) if isinstance(name, tuple) else 0
