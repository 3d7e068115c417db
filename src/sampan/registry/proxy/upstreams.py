"""Upstreams: the registries that this one is a cache of, and which repositories are whose."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from sampan.distribution.config import RegistryConfig
from sampan.distribution.endpoints import HUB, Endpoint
from sampan.http.limits import ClientLimits
from sampan.http.urls import Url
from sampan.registry import names
from sampan.registry.errors import RegistryError
from sampan.registry.proxy.logins import Login
from sampan.registry.proxy.schedules import Mirroring, matches
from sampan.spec.reference import DEFAULT_DOMAIN

WEEK = 7 * 86400.0
# Less patience than of somebody who pulls by hand: behind us, clients wait.
LIMITS = ClientLimits(connect_seconds=10.0, answer_seconds=30.0, document_seconds=30.0)
ATTEMPTS = 3
BACKOFF = 0.5  # seconds before the second attempt
LONGEST_WAIT = 2.0  # seconds; an upstream that asks for more is not waited for: clients are told
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_INTERNAL = tuple(  # networks that Python has for global ones
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # what a machine at Azure asks for keys and secrets
        "192.88.99.0/24",  # relays of 6to4
        "::/96",  # addresses of IPv4, as RFC 4291 had them first
        "::ffff:0:0:0/96",  # and as RFC 7915 translates them
        "fec0::/10",  # site-local: so QEMU calls the host of a machine
        "5f00::/16",  # segments of a network's own routing (RFC 9602)
        "3fff::/20",  # for documentation (RFC 9637)
    )
)
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # by NAT64 (RFC 6052)


@dataclass(frozen=True)
class Upstream:
    """One registry behind us. Its repository `a/b` is `prefix` + `a/b` here."""

    name: str  # in the log and in figures
    url: Url
    prefix: str = ""  # empty, or with a slash at its end
    namespaces: tuple[str, ...] = ()  # what clients may call it in `?ns=`
    login: Login = field(default_factory=Login)
    ttl: float = WEEK  # seconds in which nobody pulls, then it is forgotten; 0: never
    token_hosts: tuple[str, ...] = ()
    networks: tuple[_Network, ...] = ()  # internal ones that it may lead us into
    mirroring: tuple[Mirroring, ...] = ()
    max_size: int | None = None  # bytes of it that are kept

    @property
    def is_public(self) -> bool:
        """What it has, it gives to everybody."""
        return self.login.is_anonymous

    @property
    def endpoint(self) -> Endpoint:
        """Where it is asked."""
        base = self.url.target.partition("?")[0].rstrip("/")
        return Endpoint(
            self.url.authority, (self.url.scheme,), base=base, token_hosts=self.token_hosts
        )

    def config(self) -> RegistryConfig:
        """Return how it is asked."""
        insecure = (self.url.netloc,) if self.url.scheme == "http" else ()
        return RegistryConfig(
            insecure=insecure,
            max_attempts=ATTEMPTS,
            backoff_seconds=BACKOFF,
            longest_wait_seconds=LONGEST_WAIT,
            limits=LIMITS,
            permit=self.permits,
        )

    def permits(self, host: str, address: str) -> bool:
        """Tell whether a host may be asked at an address, wherever a redirect or a name led us.

        The upstream's own host is where the administrator says. Others have to be on the internet,
        so that nobody makes us ask what only we can reach.
        """
        if host.lower() == self.url.host.lower():
            return True
        try:
            place = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return host.lower() != "localhost"  # a name, which a proxy of HTTP will resolve
        place = _meant(place)
        if any(place in network for network in self.networks):
            return True
        is_ours = any(place in network for network in _INTERNAL)
        return place.is_global and not (place.is_multicast or is_ours)


def _meant(place: _Address) -> _Address:
    """Return the address of IPv4 that one of IPv6 leads to, if it does."""
    if isinstance(place, ipaddress.IPv4Address):
        return place
    if place in _TRANSLATED:
        return ipaddress.IPv4Address(int(place) & 0xFFFF_FFFF)
    return place.ipv4_mapped or place


def own_namespaces(url: Url) -> tuple[str, ...]:
    """Return what clients call a registry that they know by its address."""
    if url.host in (HUB, "index.docker.io", DEFAULT_DOMAIN):
        return (DEFAULT_DOMAIN,)
    return (url.authority,)


@dataclass(frozen=True)
class Place:
    """A repository that is cached: its name here, and where it comes from."""

    repository: str
    upstream: Upstream
    path: str  # its name there
    namespace: str = ""  # what the client called the upstream, if that told whose it is

    @property
    def refusal(self) -> str:
        """What is said to those who push."""
        return f"{self.repository} is cached from {self.upstream.url.authority}: push to it there"


class Places:
    """Finds out whose a repository is."""

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        local: Sequence[str] = (),
        max_size: int | None = None,
    ) -> None:
        """`local` are patterns of repositories that are ours whatever the prefixes say.

        `max_size` is how many bytes of all upstreams together are kept.
        """
        self.max_size = max_size
        # The longest prefix first.
        self.upstreams = sorted(upstreams, key=lambda one: -len(one.prefix))
        self._local = tuple(local)
        self._by_namespace = {name: one for one in upstreams for name in one.namespaces}

    def of(self, repository: str, namespace: str = "") -> Place | None:
        """Return where a repository comes from; None if it is ours.

        `namespace` is the registry that a client means, as containerd says it. Raises
        NAME_UNKNOWN for one that is none of ours.
        """
        if namespace and (found := self._named(namespace)):
            name = names.repository(found.prefix + repository)
            return Place(name, found, repository, namespace)
        if matches(repository, self._local):
            return None
        for upstream in self.upstreams:
            path = repository.removeprefix(upstream.prefix)
            if repository.startswith(upstream.prefix) and path:
                return Place(repository, upstream, path)
        return None

    def _named(self, namespace: str) -> Upstream | None:
        found = self._by_namespace.get(namespace)
        if found is None and len(self.upstreams) > 1:
            raise RegistryError(
                "NAME_UNKNOWN",
                {"ns": namespace[:255]},
                message="this registry is no mirror of that one",
            )
        # A single upstream is asked whatever clients call it, as docker-registry does.
        return found
