"""What proxies say of the address that a client asked for.

Source: RFC 7239, 4; distribution registry/api/v2/urls.go and headerparser.go: where there is a
`Forwarded`, only that counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = r"[^\"(),/:;<=>?@\[\]{}\s\x00-\x1f]+"  # noqa: S105 no password: RFC 7230's word
_PAIR = re.compile(rf'\s*({_TOKEN})=("(?:[^"\\]|\\.)*"|[^",;\s]+)\s*(;|,|$)')


def forwarded(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return scheme and host of what the first proxy was asked for; empty where nobody says."""
    given = headers.get("forwarded", "")
    if given:
        pairs = _first(given)
        return pairs.get("proto", ""), pairs.get("host", "")
    scheme, host = (
        headers.get(f"x-forwarded-{name}", "").partition(",")[0].strip()
        for name in ("proto", "host")
    )
    return scheme, host


def _first(text: str) -> dict[str, str]:
    """Return the pairs of a header's first element; none if that is broken."""
    found: dict[str, str] = {}
    place = 0
    while match := _PAIR.match(text, place):
        value = match[2]
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        found[match[1].lower()] = value
        place = match.end()
        if match[3] != ";":
            return found
    return {}
