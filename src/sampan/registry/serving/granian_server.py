"""The server for TLS and HTTP/2: granian inside our event loop (docs/decisions/029).

It serves on a socket of ours: beside its documented interface we replace `_init_shared_socket`.
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
from sampan.registry.serving.bounded import Bounded
from sampan.registry.serving.crowd import Crowd, connections, end
from sampan.registry.serving.server import BACKLOG, LIMITS, TLS

FRAME = 1 << 20  # of HTTP/2: with the usual 16 KiB an upload is 64 times as many messages
STREAMS = 32  # of one connection at once; skopeo uses six, containerd some more
UNSENT = 64 << 10  # bytes that wait for the client, for each stream
LOOK_SECONDS = 1.0  # between looks at who is there


class _Granian(Granian):
    """Granian on a socket that is there already."""

    def __init__(self, listener: socket.socket, application: ASGIApp, **rest: Any) -> None:
        super().__init__(application, interface=Interfaces.ASGINL, **rest)
        self._listener = listener
        self._leaving: list[Any] = []  # workers that accept nobody any more

    def _init_shared_socket(self) -> None:
        uds = self._listener.family == socket.AF_UNIX
        make: Any = SocketHolder
        holder = make(os.dup(self._listener.fileno()), uds, BACKLOG)
        self._shd, self._sfd = holder, holder.get_fd()
        self._ssp = None

    def renew(self, tls: TLS) -> None:
        """Serve new connections with other certificates."""
        self.build_ssl_context(*_tls_arguments(tls))
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
        cert, key, password, minimum, ca, crl, verify = _tls_arguments(tls)
        self._granian = _Granian(
            listener,
            Bounded(application, self._crowd, Turns(limits.requests)),
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
            ssl_cert=cert,
            ssl_key=key,
            ssl_key_password=password,
            ssl_protocol_min=minimum,
            ssl_ca=ca,
            ssl_crl=crl,
            ssl_client_verify=verify,
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


def _tls_arguments(tls: TLS | None) -> tuple[Any, ...]:
    if tls is None:
        return (None, None, None, SSLProtocols.tls12, None, [], False)
    minimum = SSLProtocols(tls.minimum)
    verify = tls.client_ca is not None and not tls.client_optional
    return (tls.certificate, tls.key, None, minimum, tls.client_ca, [], verify)
