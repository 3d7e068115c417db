"""Certificates that come from an ACME server, and new ones in time, while clients push and pull."""

from __future__ import annotations

import asyncio
import datetime
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Protocol, Self

from sampan.errors import Unavailable
from sampan.registry.serving.server import BACKLOG, Server
from sampan.registryd.acme.challenge import PROTOCOL, proof
from sampan.registryd.acme.folder import Folder
from sampan.registryd.acme.gate import Gate

log = logging.getLogger(__name__)
LOOK_SECONDS = 3600.0  # between looks whether it is time
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 12 * 3600.0  # after failures; ACME servers count them
PROBES, PROBE_SECONDS = 3, 30.0


class Orders(Protocol):
    """Where certificates are ordered."""

    def order(
        self, folder: Folder, hosts: Sequence[str], present: Callable[[Mapping[str, str]], None]
    ) -> None:
        """Get a certificate and keep it; blocks. Raises Unavailable."""


class Renewal:
    """Keeps the certificate of some hosts new; `listener` is where the ACME server comes to."""

    def __init__(
        self, orders: Orders, folder: Folder, hosts: Sequence[str], listener: socket.socket
    ) -> None:
        self.folder = folder
        self._orders = orders
        self._hosts = tuple(hosts)
        self._listener = listener
        self._gates = AsyncExitStack()
        self._failures = 0
        self._wanted = asyncio.Event()

    def look_now(self) -> None:
        """Do not wait for the next look, or after a failure."""
        self._wanted.set()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            pass
        self._wanted.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._gates.aclose()

    async def first(self) -> None:
        """Return when there is a certificate, if only an old one: it takes one to serve."""
        while self.folder.certificate() is None:
            log.info("asking for a certificate for %s", ", ".join(self._hosts))
            async with Gate(self._listener) as gate:
                done = await self._try(gate)
            if not done:
                await self._wait(self._pause())

    async def keep(self, server: Server, serve: Callable[[], None]) -> None:
        """Renew for ever. `serve` makes the server use the certificate that is in the folder."""
        while True:
            left = self._left()
            if left > 0:
                await self._wait(min(left, LOOK_SECONDS))
            elif await self.renew(server):
                serve()
            else:
                await self._wait(self._pause())

    def _left(self) -> float:
        """Return the seconds until it is time for the next certificate."""
        certificate = self.folder.certificate()
        if certificate is None or not certificate.hosts.issuperset(self._hosts):
            return 0.0
        return (certificate.renewal - datetime.datetime.now(datetime.UTC)).total_seconds()

    def _pause(self) -> float:
        longest = min(FIRST_PAUSE * 2.0 ** (self._failures - 1), LONGEST_PAUSE)
        return float(longest) * random.uniform(0.7, 1.0)  # noqa: S311 no secret

    async def renew(self, server: Server) -> bool:
        """Get the next certificate while the server goes on behind a gate. Tell whether it came."""
        with socket.socket(socket.AF_UNIX) as inner:
            inner.bind("")  # unix(7), autobind: a name that is in no folder, where it could stay
            inner.listen(BACKLOG)
            inner.setblocking(False)
            # It ends with us: clients whom it lets through may stay for long.
            gate = await self._gates.enter_async_context(Gate(self._listener, inner.getsockname()))
            server.move(inner)
            try:
                return await self._try(gate)
            finally:
                await gate.shut()
                server.move(self._listener)

    async def _try(self, gate: Gate) -> bool:
        loop = asyncio.get_running_loop()

        def present(authorizations: Mapping[str, str]) -> None:
            for host, authorization in authorizations.items():
                gate.proofs[host] = proof(host, authorization)
            probe(self._listener, next(iter(authorizations)))

        try:
            await loop.run_in_executor(None, self._orders.order, self.folder, self._hosts, present)
        except (Unavailable, OSError) as error:
            self._failures += 1
            log.error("no certificate for %s: %s", ", ".join(self._hosts), error)
            return False
        self._failures = 0
        log.info("a new certificate for %s has come", ", ".join(self._hosts))
        return True


def probe(listener: socket.socket, host: str) -> None:
    """Return when connections to a socket find the gate, and no server that is just leaving.

    Raises Unavailable if they do not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([PROTOCOL])
    good, deadline = 0, time.monotonic() + PROBE_SECONDS
    while good < PROBES:
        try:
            with socket.create_connection(_own_address(listener), 5.0) as sock:
                with context.wrap_socket(sock, server_hostname=host) as tls:
                    good = good + 1 if tls.selected_alpn_protocol() == PROTOCOL else 0
        except OSError:
            good = 0
        if time.monotonic() > deadline:
            raise Unavailable("challenges of ACME do not reach us on our own socket")
        if not good:
            time.sleep(0.05)


def _own_address(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port
