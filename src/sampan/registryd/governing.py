"""From a checked configuration to the rules by which a registry is kept: ours, not docker's."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sampan.errors import InvalidArgument
from sampan.registry.configuration.document import Checked
from sampan.registry.configuration.nodes import seconds, size
from sampan.registry.content.quotas import Quota
from sampan.registry.observability.audit import AuditLog
from sampan.registry.patterns import Pattern
from sampan.registry.registry import Shared
from sampan.registry.upkeep.retention import Rule, tag_pattern

DAY = 86400.0
SHORTEST = 60.0  # seconds
KEY_BYTES = 16
_WORKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def quotas(checked: Checked) -> list[Quota]:
    """Return how much repositories may have."""
    found = []
    for number, given in enumerate(checked.get("quotas", [])):
        try:
            found.append(
                Quota(
                    Pattern(str(given["repositories"])),
                    size(given["size"]) if given.get("size") is not None else None,
                    given.get("tags"),
                    bool(given.get("together")),
                    given.get("uploads"),
                )
            )
        except InvalidArgument as error:
            raise InvalidArgument(f"quotas[{number}]: {error}") from error
    return found


def shared(checked: Checked) -> Shared | None:
    """Return where the rows are that several registries share; None: in a file of this one."""
    address = checked.get("metadata.postgresql")
    if not address:
        return None
    worker = str(checked.get("metadata.worker") or socket.gethostname())
    if not _WORKER.fullmatch(worker):
        raise InvalidArgument(f"metadata.worker: {worker[:64]!r} is no name for a registry")
    return Shared(str(address), worker)


@dataclass(frozen=True)
class Retaining:
    """How tags and untagged manifests go by themselves."""

    rules: Sequence[Rule] = ()
    interval: float = DAY
    dry_run: bool = False


def retaining(checked: Checked) -> Retaining:
    """Return what goes by itself: nothing, unless there are rules."""
    rules = []
    for number, given in enumerate(checked.get("retention.rules", [])):
        place = f"retention.rules[{number}]"
        untagged = _seconds(given, "untagged")
        if untagged is not None and untagged < SHORTEST:
            raise InvalidArgument(
                f"{place}.untagged: must be at least a minute, and longer than a push takes"
            )
        try:
            rules.append(
                Rule(
                    [Pattern(str(text)) for text in given["repositories"] or []],
                    [tag_pattern(str(text)) for text in given.get("tags") or ["*"]],
                    [tag_pattern(str(text)) for text in given.get("protected") or []],
                    given.get("keeplast"),
                    _seconds(given, "keepwithin"),
                    untagged,
                )
            )
        except InvalidArgument as error:
            raise InvalidArgument(f"{place}: {error}") from error
    interval = seconds(checked.get("retention.interval", "24h"))
    if interval <= 0:
        raise InvalidArgument("retention.interval: must be more than nothing")
    return Retaining(rules, interval, bool(checked.get("retention.dryrun", False)))


def _seconds(given: Mapping[str, Any], key: str) -> float | None:
    return None if given.get(key) is None else seconds(given[key])


@dataclass(frozen=True)
class Scrubbing:
    """How what is stored is read again and again."""

    enabled: bool = False
    interval: float = 7 * DAY
    rate: float = 20e6  # bytes a second
    report_only: bool = False


def scrubbing(checked: Checked) -> Scrubbing:
    """Return how what is stored is read: not at all, unless it is asked for."""
    found = Scrubbing(
        bool(checked.get("scrub.enabled", False)),
        seconds(checked.get("scrub.interval", "168h")),
        float(size(checked.get("scrub.rate", "20MB"))),
        bool(checked.get("scrub.report", False)),
    )
    if found.interval <= 0:
        raise InvalidArgument("scrub.interval: must be more than nothing")
    return found


def audit(checked: Checked) -> AuditLog | None:
    """Open the audit log; None if there is none."""
    path = checked.get("audit.path")
    if not path:
        return None
    ignored = [str(name) for name in checked.get("audit.ignore", [])]
    try:
        return AuditLog(Path(str(path)), audit_key(checked), ignored)
    except OSError as error:
        raise InvalidArgument(f"audit.path: {path}: {error.strerror}") from error


def audit_key(checked: Checked) -> bytes:
    """Return the key of the audit log; empty without one. Raises InvalidArgument."""
    path = checked.get("audit.keyfile")
    if not path:
        return b""
    try:
        key = Path(str(path)).read_bytes().strip()
    except OSError as error:
        raise InvalidArgument(f"audit.keyfile: {path}: {error.strerror}") from error
    if len(key) < KEY_BYTES:
        raise InvalidArgument(f"audit.keyfile: {path} has less than {KEY_BYTES} bytes")
    return key
