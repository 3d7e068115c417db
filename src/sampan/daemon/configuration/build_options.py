"""The member `builder.gc` of daemon.json: what is swept from the build cache by itself.

Source: moby daemon/config/builder.go; docker documentation, "Build garbage collection".
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from sampan.daemon.configuration.flags import UsageError, parse_bytes
from sampan.spec.build import GCPolicy

_SIZES: Final = {
    "keepStorage": "reserved",
    "reservedSpace": "reserved",
    "maxUsedSpace": "max_used",
    "minFreeSpace": "min_free",
}
_DEFAULTS: Final = {f"default{name[0].upper()}{name[1:]}": name for name in _SIZES}
_TIME: Final = re.compile(r"([0-9]+)(s|m|h|d)?")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, None: 1}
_SECOND: Final = 10**9  # nanoseconds
_OLD: Final = 60 * 86400 * _SECOND


def gc_policies(collection: dict[str, Any]) -> list[GCPolicy] | None:
    """Return what `builder.gc` wants to be swept, None if it says nothing. Raises UsageError."""
    _known("builder.gc", collection, ("enabled", "policy", *_DEFAULTS))
    if collection.get("enabled") is False:
        return []
    sizes = {_DEFAULTS[name]: value for name, value in collection.items() if name in _DEFAULTS}
    limits = _sizes("builder.gc", sizes)
    policies = collection.get("policy") or []
    if not isinstance(policies, list):
        raise UsageError("builder.gc.policy must be a list")
    if policies:
        return [_policy(one) for one in policies]
    if not any(limits.values()):
        return None
    return [
        GCPolicy(keep_duration=_OLD, **limits),  # type: ignore[arg-type]
        GCPolicy(**limits),  # type: ignore[arg-type]
        GCPolicy(all=True, **limits),  # type: ignore[arg-type]
    ]


def _policy(document: Any) -> GCPolicy:
    name = "builder.gc.policy"
    _known(name, document, ("all", "filter", "keepDuration", *_SIZES))
    filters = document.get("filter") or []
    if isinstance(filters, str):
        filters = [filters]
    if not isinstance(filters, list) or not all(isinstance(it, str) for it in filters):
        raise UsageError(f"{name}: filter must be a list of strings")
    # Docker writes "unused-for=48h" among the filters.
    ages = [it.partition("=")[2] for it in filters if it.startswith(("unused-for=", "until="))]
    rest = tuple(it for it in filters if not it.startswith(("unused-for=", "until=")))
    age = document.get("keepDuration") or (ages[0] if ages else 0)
    limits = _sizes(name, document)
    return GCPolicy(
        all=document.get("all") is True,
        filters=(",".join(it.replace("=", "==", 1) if _plain(it) else it for it in rest),)
        if rest
        else (),
        keep_duration=_duration(age),
        **limits,
    )


def _plain(condition: str) -> bool:
    return re.fullmatch(r"[a-z]+=[^=].*", condition) is not None


def _known(name: str, document: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(document, dict):
        raise UsageError(f"{name} must be an object, not {json.dumps(document)[:60]}")
    for key in document:
        if key not in keys:
            raise UsageError(f"{name}: unknown key {key}")


def _sizes(name: str, document: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, field in _SIZES.items():
        value = document.get(key)
        if value is None:
            continue
        try:
            size = parse_bytes(value) if isinstance(value, str) else value
        except ValueError as error:
            raise UsageError(f"{name}: {key}: {error}") from error
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise UsageError(f"{name}: {key} must be bytes, not {json.dumps(value)[:60]}")
        found[field] = size
    return found


def _duration(value: Any) -> int:
    text = str(value)
    match = _TIME.fullmatch(text)
    if match is None:
        raise UsageError(f"builder.gc.policy: invalid duration {text[:60]!r}")
    return int(match[1]) * _UNITS[match[2]] * _SECOND
