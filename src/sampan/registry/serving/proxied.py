"""Clients of a proxy before the registry: each by its own address, not all by that of the proxy.

Else whoever guesses passwords there has everybody wait, and the audit log knows one address only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from sampan.errors import InvalidArgument

UNIX = "unix"  # whoever may open the registry's socket
HEADER = b"x-forwarded-for"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Trusted:
    """The proxies that are believed what they say of their clients."""

    def __init__(self, listed: Sequence[str]) -> None:
        """Take networks, addresses, and `unix`; raise InvalidArgument for anything else."""
        self._unix = UNIX in listed
        try:
            self._networks: list[Network] = [
                ipaddress.ip_network(text, strict=False) for text in listed if text != UNIX
            ]
        except ValueError as error:
            raise InvalidArgument(f"http.clients.proxies: {error}") from None

    def client(self, peer: str, told: str) -> str:
        """Return whose a request is: the last in what was told who is none of the proxies."""
        found = peer
        is_proxy = self._is_proxy(peer)
        for text in reversed(told.split(",")):
            if not is_proxy:
                break
            address = _address(text)
            if address is None:
                break
            found, is_proxy = str(address), any(address in one for one in self._networks)
        return found

    def _is_proxy(self, peer: str) -> bool:
        address = _address(peer)
        if address is None:
            return self._unix
        return any(address in network for network in self._networks)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


class Proxied:
    """An application that is told who the client of a trusted proxy is."""

    def __init__(self, application: ASGIApp, trusted: Trusted) -> None:
        self._application = application
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            told = b",".join(value for name, value in scope["headers"] if name == HEADER)
            peer = (scope.get("client") or ("",))[0]
            client = self._trusted.client(str(peer), told.decode("latin-1")) if told else peer
            if client != peer:
                scope = {**scope, "client": (client, 0)}
        await self._application(scope, receive, send)
