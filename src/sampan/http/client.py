"""An asynchronous HTTP/1.1 client: connections that are kept, proxies, TLS, limits.

It follows no redirect and knows no authentication: who uses it decides that. Large bodies, up and
down, are moved by threads (`pump`); everything else happens in the event loop.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Self

import h11

from sampan.http.dialing import Permit, connect, proxy_headers
from sampan.http.exchange import Answer, Exchange, Source
from sampan.http.faults import BrokenFault, Fault
from sampan.http.limits import ClientLimits
from sampan.http.proxies import Proxies
from sampan.http.pump import in_thread
from sampan.http.urls import Url
from sampan.http.wire import Wire

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})  # RFC 9110, 9.2.2
Trust = Callable[[Url], Awaitable[ssl.SSLContext]]
Body = bytes | Source | None
_Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class _Idle:
    wire: Wire
    since: float


class Client:
    """Sends requests. Its connections end with `async with`."""

    def __init__(
        self,
        trust: Trust | None = None,
        proxies: Proxies | None = None,
        limits: ClientLimits | None = None,
        user_agent: str = "sampan",
        permit: Permit | None = None,
    ) -> None:
        self.limits = limits or ClientLimits()
        self._trust = trust or _system_trust()
        self._proxies = proxies or Proxies()
        self._user_agent = user_agent
        self._permit = permit
        self._idle: dict[_Key, list[_Idle]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the idle connections; those in use end with their answers."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for idle in self._idle.values():
            for one in idle:
                one.wire.close()
        self._idle.clear()

    async def send(
        self,
        method: str,
        url: Url,
        headers: Sequence[tuple[str, str]] = (),
        body: Body = None,
        *,
        answer_seconds: float | None = None,
    ) -> Answer:
        """Send a request and return its answer when the head is there. Raises a Fault.

        Leave the answer by `async with`: then its connection is kept or closed. A kept
        connection that turns out to be dead is replaced, if the request can be sent again.
        """
        while True:
            wire, is_fresh = await self._connection(url)
            exchange = Exchange(wire, self.limits, answer_seconds or self.limits.answer_seconds)
            try:
                return await self._speak(exchange, method, url, headers, body)
            except BrokenFault:
                wire.close()
                may_repeat = method in IDEMPOTENT and not isinstance(body, Source)
                if is_fresh or exchange.has_answered or not may_repeat:
                    raise
            except BaseException:
                wire.close()
                raise

    async def _speak(
        self,
        exchange: Exchange,
        method: str,
        url: Url,
        headers: Sequence[tuple[str, str]],
        body: Body,
    ) -> Answer:
        proxy = self._proxy(url)
        head = [("Host", url.authority), ("User-Agent", self._user_agent), *headers]
        target = url.target
        if proxy is not None and url.scheme == "http":
            target = str(url)
            head += proxy_headers(proxy)
        head += _framing(method, body)
        try:
            request = h11.Request(method=method, target=target, headers=head)
        except (h11.LocalProtocolError, UnicodeEncodeError):
            raise Fault("net/http: invalid header field value") from None
        await exchange.send(request, body)
        return await exchange.answer(url, lambda wire: self._keep(url, wire))

    def _proxy(self, url: Url) -> Url | None:
        address = self._proxies.of(url.scheme, url.host, url.port)
        return Url.parse(address) if address else None

    # --- connections -------------------------------------------------------------------------

    async def _connection(self, url: Url) -> tuple[Wire, bool]:
        """Return a connection, and whether it is a new one."""
        kept = self._idle.get(url.origin, [])
        while kept:
            idle = kept.pop()
            age = time.monotonic() - idle.since
            if age < self.limits.idle_seconds and idle.wire.is_quiet():
                return idle.wire, False
            idle.wire.close()
        tls = await self._trust(url) if url.scheme == "https" else None
        seconds = self.limits.connect_seconds
        return await connect(url, self._proxy(url), tls, seconds, self._permit), True

    def _keep(self, url: Url, wire: Wire) -> None:
        if self._closed:
            wire.close()
            return
        kept = self._idle.setdefault(url.origin, [])
        if len(kept) >= self.limits.idle_connections:
            kept.pop(0).wire.close()
        kept.append(_Idle(wire, time.monotonic()))
        if self._sweeping is None:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(self.limits.idle_seconds, self._sweep)

    def _sweep(self) -> None:
        """End what has been idle for too long; come again as long as something is kept."""
        oldest = time.monotonic() - self.limits.idle_seconds
        for origin, kept in list(self._idle.items()):
            while kept and kept[0].since <= oldest:
                kept.pop(0).wire.close()
            if not kept:
                del self._idle[origin]
        self._sweeping = None
        if self._idle:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(self.limits.idle_seconds / 2, self._sweep)


def _framing(method: str, body: Body) -> list[tuple[str, str]]:
    if isinstance(body, Source):
        if body.length is None:
            return [("Transfer-Encoding", "chunked")]
        return [("Content-Length", str(body.length))]
    if body is None:
        return [("Content-Length", "0")] if method in ("POST", "PUT", "PATCH") else []
    return [("Content-Length", str(len(body)))]


def _system_trust() -> Trust:
    contexts: list[ssl.SSLContext] = []

    async def trust(_: Url) -> ssl.SSLContext:
        if not contexts:
            contexts.append(await in_thread(lambda _: ssl.create_default_context()))
        return contexts[0]

    return trust
