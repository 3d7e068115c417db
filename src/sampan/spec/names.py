"""Identifiers: container and exec ids, and the patterns that names must match."""

from __future__ import annotations

import re
import secrets

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")  # moby daemon/names
VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")  # moby daemon/volume/local
VOLUME_BYTES = 255  # it is a file name
ID = re.compile(r"[0-9a-f]{64}")


def new_id() -> str:
    """Return a fresh id: 64 hexadecimal digits whose short form is not all digits.

    A short id of digits only could be taken for a number (moby pkg/stringid).
    """
    while (value := secrets.token_hex(32))[:12].isdecimal():
        pass
    return value


def short_id(id: str) -> str:
    """Return the twelve digits that people see; a digest loses its algorithm."""
    return id.removeprefix("sha256:")[:12]
