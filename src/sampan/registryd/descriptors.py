"""From a checked configuration to descriptors of blobs in a Redis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sampan.registry.configuration import redis
from sampan.registry.configuration.document import Checked
from sampan.registry.descriptors import server
from sampan.registry.descriptors.descriptors import owe_nothing
from sampan.registry.descriptors.server import Server, Tls
from sampan.registry.registry import Registry


def where(checked: Checked) -> Server | None:
    """Return where descriptors are kept; None if they are not."""
    if not redis.is_wanted(checked.document):
        return None
    given: Mapping[str, Any] = checked.get("redis", {})

    def text(key: str) -> str:
        return str(given.get(key) or "")

    answer = max(redis.positive(given.get(f"{kind}timeout"), 0.0) for kind in ("read", "write"))
    retries = given.get("maxretries") or Server.retries
    return Server(
        addresses=tuple(redis.addresses(given)),
        database=given.get("db") or 0,
        username=text("username"),
        password=text("password"),
        master=text("mastername"),
        sentinel_username=text("sentinelusername"),
        sentinel_password=text("sentinelpassword"),
        dial_seconds=redis.positive(given.get("dialtimeout"), Server.dial_seconds),
        answer_seconds=answer or Server.answer_seconds,
        retries=max(retries, 0),  # -1: none
        retry_seconds=(
            redis.positive(given.get("minretrybackoff"), Server.retry_seconds[0]),
            redis.positive(given.get("maxretrybackoff"), Server.retry_seconds[1]),
        ),
        name=text("clientname"),
        protocol=given.get("protocol") or Server.protocol,
        tls=_tls(given.get("tls") or {}),
    )


def _tls(given: Mapping[str, Any]) -> Tls | None:
    authorities = [*(given.get("rootcas") or []), *(given.get("clientcas") or [])]
    if not (given.get("certificate") or authorities):
        return None
    return Tls(
        str(given.get("certificate") or ""),
        str(given.get("key") or ""),
        tuple(str(path) for path in authorities),
    )


def look(checked: Checked) -> None:
    """Look whether all is there that this needs, without asking the server.

    Raises InvalidArgument.
    """
    found = where(checked)
    if found:
        server.look(found)


def keep(checked: Checked, registry: Registry) -> None:
    """Have a registry keep descriptors, if that is wanted. Raises InvalidArgument."""
    found = where(checked)
    if found is None:
        owe_nothing(registry.metadata)
        return
    from sampan.registry.descriptors.redis import RedisDescriptors  # redis-py: 9 MB

    registry.describe(RedisDescriptors(registry.metadata, registry.driver, found))
