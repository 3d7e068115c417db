"""Clients by whom they belong to, so that one of them takes nothing from all the others."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

HOME = 64  # bits that are the same in all IPv6 addresses of one network (RFC 6177)


def plain(address: str) -> str:
    """Return an address as it is called: one of IPv4 may come in the clothes of IPv6."""
    return address.removeprefix("::ffff:") if "." in address else address


def with_port(address: str, port: int) -> str:
    """Return an address with its port, as they stand in a URL."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def owner(address: str) -> str:
    """Return what stands for whoever has an address: of IPv6, everybody has a network of them."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return address
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, HOME), strict=False))


class Turns:
    """Lets each owner do so many things at once; what is more waits, in its order."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._doors: dict[str, tuple[asyncio.Semaphore, list[None]]] = {}

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it."""
        who = owner(address)
        door, inside = self._doors.setdefault(who, (asyncio.Semaphore(self._each), []))
        inside.append(None)
        try:
            async with door:
                yield
        finally:
            inside.pop()
            if not inside:
                del self._doors[who]
