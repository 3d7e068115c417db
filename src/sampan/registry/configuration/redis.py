"""The section `redis`: docker-registry 2.x's few keys, and go-redis's many of 3.x.

Source: distribution configuration/configuration.go at v2.8.3, v3.0.0 and v3.1.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sampan.registry.configuration.nodes import (
    Boolean,
    Duration,
    Integer,
    Many,
    Node,
    Problem,
    Section,
    Text,
    seconds,
)
from sampan.registry.descriptors.server import host_and_port

# What these are about does not exist here: one thread has one connection, and reads nothing.
_WITHOUT_EFFECT: dict[str, Node] = {
    **dict.fromkeys(("poolsize", "minidleconns", "maxidleconns", "maxactiveconns"), Integer()),
    **dict.fromkeys(("pooltimeout", "connmaxidletime", "connmaxlifetime"), Duration()),
    **dict.fromkeys(("poolfifo", "contexttimeoutenabled", "unstableresp3"), Boolean()),
    **dict.fromkeys(("readonly", "routebylatency", "routerandomly"), Boolean()),
    **dict.fromkeys(("disableidentity", "disableindentity"), Boolean()),
    "maxredirects": Integer(-1),
    "identitysuffix": Text(),
}
REDIS = Section(
    {
        "addr": Text(),
        "addrs": Many(Text()),
        **dict.fromkeys(("username", "password", "mastername", "clientname"), Text()),
        **dict.fromkeys(("sentinelusername", "sentinelpassword"), Text()),
        **dict.fromkeys(("dialtimeout", "readtimeout", "writetimeout"), Duration()),
        **dict.fromkeys(("minretrybackoff", "maxretrybackoff"), Duration()),
        "db": Integer(),
        "protocol": Integer(),
        "maxretries": Integer(-1),
        "pool": Section({"maxidle": Integer(), "maxactive": Integer(), "idletimeout": Duration()}),
        "tls": Section(
            {
                "certificate": Text(),
                "key": Text(),
                "rootcas": Many(Text()),
                "clientcas": Many(Text()),  # what 3.0 called them
            }
        ),
        **_WITHOUT_EFFECT,
    }
)


def is_wanted(document: Mapping[str, Any]) -> bool:
    """Tell whether descriptors are to be kept in Redis."""
    storage = document.get("storage")
    cache = storage.get("cache") if isinstance(storage, Mapping) else None
    if not isinstance(cache, Mapping):
        return False
    return (cache.get("blobdescriptor") or cache.get("layerinfo")) == "redis"


def addresses(given: Mapping[str, Any]) -> list[str]:
    """Return where the server is, by either key."""
    listed = given.get("addrs") or []
    if not listed and given.get("addr"):
        listed = [given["addr"]]
    return [str(address) for address in listed]


def problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what no key alone shows."""
    given = document.get("redis")
    given = given if isinstance(given, Mapping) else {}
    if not is_wanted(document):
        if given:
            reason = "is not used: storage.cache.blobdescriptor is not redis"
            yield Problem("redis", reason, harmless=True)
        return
    listed = given.get("addrs")
    if listed is not None and not isinstance(listed, list):
        return  # which is a problem already
    found = addresses(given)
    if not found:
        yield Problem("redis.addrs", "is required by storage.cache.blobdescriptor: redis")
    elif given.get("addr") and str(given["addr"]) not in found:
        yield Problem("redis.addr", "is 2.x's word for addrs, which says something else")
    yield from _addresses(given, found)
    tls = given.get("tls")
    if isinstance(tls, Mapping) and bool(tls.get("certificate")) != bool(tls.get("key")):
        yield Problem("redis.tls", "certificate and key go together")
    if given.get("protocol") not in (None, 0, 2, 3):
        yield Problem("redis.protocol", "must be 2 or 3")


def _addresses(given: Mapping[str, Any], found: list[str]) -> Iterator[Problem]:
    is_one = len(found) == 1 and not given.get("mastername")
    for number, address in enumerate(found):
        place = f"redis.addrs[{number}]" if given.get("addrs") else "redis.addr"
        if address.startswith("/"):
            if not is_one:
                yield Problem(place, "a socket is one server, with no sentinels")
            continue
        try:
            host_and_port(address)
        except ValueError as error:
            yield Problem(place, str(error))
    if len(found) > 1 and not given.get("mastername") and given.get("db"):
        yield Problem("redis.db", "a cluster, which several addresses are, has only 0")


def positive(value: object, default: float) -> float:
    """Return a duration in seconds; the default if there is none, or one of go-redis's marks."""
    found = seconds(value) if value is not None else 0.0
    return found if found > 0 else default
