"""Where a registry is: from the name in a reference to the addresses that are asked.

Source: moby registry/service_v2.go and config.go.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sampan.errors import InvalidArgument
from sampan.http.urls import PORTS, Url
from sampan.spec.addresses import is_address
from sampan.spec.reference import DEFAULT_DOMAIN

HUB = "registry-1.docker.io"
HUB_INDEX = "index.docker.io"
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server that may hold a repository."""

    name: str  # host[:port] as it is written in names and in certs.d
    schemes: tuple[str, ...]  # in the order in which they are tried
    prefix: str = ""  # before the repository's path; only mirrors have one
    is_mirror: bool = False
    base: str = ""  # what stands before /v2/, without a slash at its end
    token_hosts: tuple[str, ...] | None = None
    """Other hosts whose token servers may be shown the user's password; None: any.

    The registry's own host may, and those that share its domain.
    """

    def url(self, scheme: str, path: str = "") -> Url:
        """Return an address below /v2/."""
        return Url.parse(f"{scheme}://{self.name}{self.base}/v2/{path}")

    def trusts(self, realm: str) -> bool:
        """Tell whether a token server may be shown the user's password."""
        if self.token_hosts is None:
            return True
        try:
            host = Url.parse(realm).host.lower()
        except InvalidArgument:
            return True  # it will not be asked
        own = self.url("https").host.lower()
        return host in (own, *self.token_hosts) or _are_related(own, host)


class Endpoints:
    """Finds endpoints by the administrator's settings."""

    def __init__(
        self,
        insecure: Sequence[str],
        hub_mirrors: Sequence[str],
        mirrors: Mapping[str, Sequence[str]],
    ) -> None:
        self._networks: list[_Network] = []
        self._names: set[str] = set()
        for one in insecure:
            self._add_insecure(one)
        self._mirrors = {name: [_mirror(text) for text in of] for name, of in mirrors.items()}
        self._mirrors[DEFAULT_DOMAIN] = [
            *(_mirror(text) for text in hub_mirrors),
            *self._mirrors.get(DEFAULT_DOMAIN, ()),
        ]
        self._answers: dict[str, bool] = {}

    def _add_insecure(self, text: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            if "://" in text:
                raise InvalidArgument(
                    f"insecure registry {text} should not contain '://'"
                ) from None
            self._names.add(text.lower())

    def of(self, domain: str) -> Endpoint:
        """Return the registry itself."""
        name = HUB if domain == DEFAULT_DOMAIN else domain
        return Endpoint(name, ("https", "http"))

    def mirrors_of(self, domain: str) -> list[Endpoint]:
        """Return what stands before a registry, in the order in which it is asked."""
        return list(self._mirrors.get(domain, ()))

    async def is_insecure(self, url: Url) -> bool:
        """Tell whether a host may have an unknown certificate or no TLS at all."""
        host = url.host.lower()
        if host not in self._answers:
            if len(self._answers) > 1024:
                self._answers.clear()
            self._answers[host] = await self._is_insecure(host)
        return self._answers[host] or self.is_listed(url)

    def is_known_insecure(self, url: Url) -> bool:
        """Return what `is_insecure` has found out before."""
        return self._answers.get(url.host.lower(), False) or self.is_listed(url)

    def is_listed(self, url: Url) -> bool:
        """Tell whether the host is named as insecure: with this port, or without any."""
        host = f"[{url.host}]" if ":" in url.host else url.host
        return not self._names.isdisjoint({host.lower(), url.netloc.lower(), url.host.lower()})

    async def _is_insecure(self, host: str) -> bool:
        if host == "localhost":
            return True
        try:
            addresses = [ipaddress.ip_address(host.partition("%")[0])]
        except ValueError:
            # Docker also takes a name for insecure that resolves to 127.0.0.0/8: whoever can
            # answer for the name once could turn its certificate checks off. We do not.
            return bool(self._networks) and await self._resolves_inside(host)
        return any(address in net for address in addresses for net in (*_LOOPBACK, *self._networks))

    async def _resolves_inside(self, host: str) -> bool:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return False
        addresses = [ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found]
        return any(address in net for address in addresses for net in self._networks)


def _are_related(one: str, other: str) -> bool:
    """Tell whether two names lie in one domain: registry-1.docker.io and auth.docker.io."""
    if is_address(one) or is_address(other):
        return False
    domain = one.partition(".")[2]
    return "." in domain and (other == domain or other.endswith(f".{domain}"))


def _mirror(text: str) -> Endpoint:
    url = Url.parse(text)
    if url.user_info:
        raise InvalidArgument("invalid mirror: username/password not allowed in URI")
    if "?" in url.target or "#" in text:
        raise InvalidArgument(f'invalid mirror: unsupported query or fragment in "{text}"')
    prefix = url.target.strip("/")
    return Endpoint(url.authority, (url.scheme,), f"{prefix}/" if prefix else "", is_mirror=True)


def names_of(url: Url) -> tuple[str, ...]:
    """Return what a host may be called in certs.d."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return (host, url.netloc) if url.port == PORTS[url.scheme] else (url.netloc,)
