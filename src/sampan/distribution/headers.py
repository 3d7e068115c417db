"""Header fields of the distribution API: Range, Content-Range, Link, Retry-After."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_DIGITS = r"[0-9]{1,18}"
_UPLOADED = re.compile(rf"(?:bytes=)?({_DIGITS})-({_DIGITS})", re.ASCII)
_CONTENT_RANGE = re.compile(rf"bytes ({_DIGITS})-({_DIGITS})/({_DIGITS}|\*)", re.ASCII)
_LINK = re.compile(r"<([^<>]{1,8192})>\s*((?:;[^,]*)?)")
_NEXT = re.compile(r';\s*rel\s*=\s*(?:"next"|next)\s*(?:;|$)', re.IGNORECASE)
_HEADER_LENGTH = 16 << 10


def uploaded(text: str) -> int | None:
    """Return how many bytes an upload has, from its Range header; None if it does not tell."""
    match = _UPLOADED.fullmatch(text.strip())
    if match is None or int(match[1]) != 0:
        return None
    return int(match[2]) + 1


def content_range(text: str) -> tuple[int, int, int | None] | None:
    """Return first byte, last byte and whole length of a part; None for what is no range."""
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None or int(match[1]) > int(match[2]):
        return None
    whole = None if match[3] == "*" else int(match[3])
    if whole is not None and int(match[2]) >= whole:
        return None
    return int(match[1]), int(match[2]), whole


def next_page(links: list[str]) -> str | None:
    """Return where a Link header with rel="next" leads to (RFC 8288)."""
    for text in links:
        for match in _LINK.finditer(text[:_HEADER_LENGTH]):
            if _NEXT.search(match[2]):
                return match[1]
    return None


def retry_after(text: str, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks to wait; None if it asks for nothing."""
    text = text.strip()
    if re.fullmatch(_DIGITS, text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
