"""How a client gets a connection: names, sockets, proxies, TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import h11

from sampan.http.faults import (
    DialFault,
    Fault,
    ForbiddenFault,
    RefusedProxyFault,
    TimeoutFault,
    exchange_fault,
    lookup_fault,
    malformed,
    tls_fault,
    words_of,
)
from sampan.http.urls import Url
from sampan.http.wire import Wire

_PROXY_HEAD_BYTES = 16 << 10
_START_SECONDS = 0.3  # of one address before the next; Go's net.Dialer has the same
_ADDRESSES = 16
Permit = Callable[[str, str], bool]
"""Tells whether a host may be asked at one of its addresses."""


async def connect(
    url: Url,
    proxy: Url | None,
    tls: ssl.SSLContext | None,
    seconds: float,
    permit: Permit | None = None,
) -> Wire:
    """Return a connection over which `url` can be asked. Raises a Fault.

    Only addresses that are permitted are asked, whatever a name resolves to; behind a proxy, which
    resolves names by itself, only hosts that are written as addresses can be told.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _connect(url, proxy, tls, permit)
    except TimeoutError:
        via = proxy or url
        raise TimeoutFault(f"dial tcp {via.netloc}: i/o timeout") from None


async def _connect(
    url: Url, proxy: Url | None, tls: ssl.SSLContext | None, permit: Permit | None
) -> Wire:
    if proxy is None:
        wire = Wire(await _dial(url, permit))
    else:
        if permit is not None and not permit(url.host, url.host):
            raise _forbidden(url)
        try:
            wire = Wire(await _dial(proxy))
        except DialFault as error:
            raise DialFault(f"proxyconnect tcp: {error}") from None
    try:
        if proxy is not None and url.scheme == "https":
            await _tunnel(wire, url, proxy)
        return await _secure(wire, url, tls) if tls is not None else wire
    except BaseException:
        wire.close()
        raise


def _forbidden(url: Url) -> ForbiddenFault:
    return ForbiddenFault(f"dial tcp {url.netloc}: this address must not be asked")


async def _dial(url: Url, permit: Permit | None = None) -> socket.socket:
    """Connect to a host: its addresses are tried in turn, each with a small start before the next.

    The first that answers wins (RFC 8305); if none does, the last one's error is told.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise lookup_fault(url.host, error) from None
    except UnicodeError:
        found = []
    fault = DialFault(f"dial tcp: lookup {url.host}: no such host")
    waiting = [(family, address) for family, _, _, _, address in found[:_ADDRESSES]]
    if permit is not None and waiting:
        waiting = [(family, at) for family, at in waiting if permit(url.host, str(at[0]))]
        if not waiting:
            raise _forbidden(url)
    running: set[asyncio.Task[socket.socket]] = set()
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_dial_address(*waiting.pop(0))))
            start = _START_SECONDS if waiting else None
            done, running = await asyncio.wait(
                running, timeout=start, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                try:
                    sock = task.result()
                except DialFault as error:
                    fault = error
                else:
                    running |= done - {task}
                    return sock
    finally:
        await _give_up(running)
    raise fault


async def _give_up(running: set[asyncio.Task[socket.socket]]) -> None:
    """End the attempts that are no longer wanted; one may have come through just now."""
    for task in running:
        task.cancel()
    for result in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(result, socket.socket):
            result.close()


async def _dial_address(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except OSError as error:
        sock.close()
        host, port = address[:2]
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise DialFault(f"dial tcp {where}: connect: {words_of(error)}") from None
    except BaseException:
        sock.close()
        raise
    return sock


async def _secure(wire: Wire, url: Url, tls: ssl.SSLContext) -> Wire:
    try:
        sock = tls.wrap_socket(
            wire.sock, server_hostname=url.host.rstrip("."), do_handshake_on_connect=False
        )
        secured = Wire(sock)
    except OSError as error:
        raise DialFault(words_of(error)) from None
    except ValueError as error:  # a name that cannot be checked
        raise DialFault(f"tls: {error}") from None
    try:
        await secured.handshake()
    except ssl.SSLError as error:
        secured.close()
        raise tls_fault(error, url.host) from None
    except OSError as error:
        secured.close()
        raise DialFault(words_of(error)) from None
    except BaseException:
        secured.close()
        raise
    return secured


async def _tunnel(wire: Wire, url: Url, proxy: Url) -> None:
    """Ask a proxy for a connection to the host of `url` (RFC 9110, 9.3.6)."""
    if proxy.scheme != "http":
        raise DialFault(f"proxyconnect tcp: proxies over {proxy.scheme} are not supported")
    talk = h11.Connection(h11.CLIENT, max_incomplete_event_size=_PROXY_HEAD_BYTES)
    headers = [("Host", url.netloc), *proxy_headers(proxy)]
    try:
        request = h11.Request(method="CONNECT", target=url.netloc, headers=headers)
        await wire.send(talk.send(request) or b"")
        await wire.send(talk.send(h11.EndOfMessage()) or b"")
        while (event := talk.next_event()) is h11.NEED_DATA or isinstance(
            event, h11.InformationalResponse
        ):
            if event is h11.NEED_DATA:
                talk.receive_data(await wire.receive())
    except h11.RemoteProtocolError as error:
        raise malformed(error) from None
    except OSError as error:
        raise exchange_fault(error, proxy.host) from None
    if not isinstance(event, h11.Response):
        raise Fault("proxyconnect tcp: EOF")
    if not 200 <= event.status_code < 300:
        raise RefusedProxyFault(bytes(event.reason).decode("latin-1") or str(event.status_code))


def proxy_headers(proxy: Url) -> list[tuple[str, str]]:
    """Return the headers that show a proxy who we are, if its address holds a name."""
    return [("Proxy-Authorization", proxy.login)] if proxy.user_info else []
