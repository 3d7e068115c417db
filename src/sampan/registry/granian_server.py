"""The server for TLS and HTTP/2: granian inside our event loop (docs/decisions/029).

It serves on a socket of ours: beside its documented interface we replace `_init_shared_socket`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any, Self

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.server.embed import Server as Granian
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sampan.registry.server import BACKLOG, TLS

FRAME = 1 << 20  # of HTTP/2: with the usual 16 KiB an upload is 64 times as many messages
HEAD_MILLISECONDS = 30_000


class _Bodiless:
    """An application whose answers to HEAD have no bodies: over HTTP/2 granian would send them."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "HEAD":
            await self._application(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._application(scope, receive, send_head)


class _Granian(Granian):
    """Granian on a socket that is there already."""

    def __init__(self, listener: socket.socket, application: ASGIApp, **rest: Any) -> None:
        super().__init__(_Bodiless(application), interface=Interfaces.ASGINL, **rest)
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
        drain_seconds: int = 0,
    ) -> None:
        self._task: asyncio.Task[None] | None = None
        cert, key, password, minimum, ca, crl, verify = _tls_arguments(tls)
        self._granian = _Granian(
            listener,
            application,
            http=HTTPModes.auto if http2 else HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=HEAD_MILLISECONDS),
            http2_settings=HTTP2Settings(
                max_frame_size=FRAME,
                initial_stream_window_size=4 * FRAME,
                initial_connection_window_size=16 * FRAME,
                max_headers_size=64 << 10,
            ),
            runtime_threads=2,
            websockets=False,
            backlog=BACKLOG,
            log_enabled=False,
            ssl_cert=cert,
            ssl_key=key,
            ssl_key_password=password,
            ssl_protocol_min=minimum,
            ssl_ca=ca,
            ssl_crl=crl,
            ssl_client_verify=verify,
        )
        self._granian.workers_kill_timeout = drain_seconds or 1

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._granian.serve())
        return self

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


def _tls_arguments(tls: TLS | None) -> tuple[Any, ...]:
    if tls is None:
        return (None, None, None, SSLProtocols.tls12, None, [], False)
    minimum = SSLProtocols(tls.minimum)
    verify = tls.client_ca is not None and not tls.client_optional
    return (tls.certificate, tls.key, None, minimum, tls.client_ca, [], verify)
