"""Requests that a page of another site has a browser send, with the name and password of its user.

A browser adds what it knows for Basic to every request, whoever asks for it. Reading the answer
needs a permit (CORS), and so do PUT and DELETE; a POST, which uploads and mounts, needs none.
Source: Fetch standard; W3C, Fetch Metadata Request Headers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sampan.registry.forwarded import forwarded

HARMLESS = ("GET", "HEAD", "OPTIONS")
PERMIT = "access-control-allow-origin"


def is_foreign(
    method: str, headers: Mapping[str, str], answered: Mapping[str, Sequence[str]]
) -> bool:
    """Tell whether a page of another site wants something changed, and nobody has permitted it.

    `answered` are the headers of the configuration, which may permit it. Programs send neither
    `Sec-Fetch-Site` nor `Origin`.
    """
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin", "")
    if method in HARMLESS or site in ("same-origin", "none"):
        return False
    permitted = {v for name, values in answered.items() if name.lower() == PERMIT for v in values}
    if permitted & {origin, "*"}:
        return False
    if site:
        return True
    ours = {headers.get("host", "").lower(), forwarded(headers)[1].lower()} - {""}
    return bool(origin) and origin.lower().partition("://")[2] not in ours
