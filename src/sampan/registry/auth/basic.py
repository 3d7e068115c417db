"""Name and password in a request (RFC 7617)."""

from __future__ import annotations

import base64
import binascii


def credentials(header: str) -> tuple[str, str] | None:
    """Return name and password of a Basic header; None if it is none."""
    kind, _, text = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, colon, password = (
            base64.b64decode(text.strip(), validate=True).decode().partition(":")
        )
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return (name, password) if colon else None
