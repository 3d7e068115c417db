"""What nobody has pulled for a while is forgotten: manifests first, then the blobs they needed."""

from __future__ import annotations

import logging

from sampan.registry.errors import RegistryError
from sampan.registry.proxy.upstreams import Places
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest

log = logging.getLogger(__name__)
HOUR = 3600.0
LONGEST_DELAY = 24 * HOUR  # after its last use, before a blob goes that no manifest needs


def expire(registry: Registry, places: Places, now: float | None = None) -> None:
    """Forget what is older than its upstream's `ttl`. What was pushed here is never touched."""
    now = now or registry.metadata.now()
    rows = registry.metadata.rows("SELECT repository, digest, touched FROM manifests")
    for name, digest, touched in rows:
        place = places.of(name)
        if place is None or not place.upstream.ttl or touched > now - place.upstream.ttl:
            continue
        try:
            registry.manifests.remove(name, Digest(digest))
        except RegistryError:
            continue  # it was removed meanwhile
        log.info("manifest %s of %s is forgotten: nobody pulls it", digest, name)
    lives = [upstream.ttl for upstream in places.upstreams if upstream.ttl]
    if lives:
        registry.collector.collect(
            min(*lives, LONGEST_DELAY), among=lambda name: _forgets(places, name)
        )


def _forgets(places: Places, name: str) -> bool:
    place = places.of(name)
    return place is not None and bool(place.upstream.ttl)
