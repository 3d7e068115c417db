"""RUN --mount=type=…,…: its fields and what they must be.

Source: docker documentation, Dockerfile reference, "RUN --mount"; buildkit
frontend/dockerfile/instructions/commands_runmount.go (rules and messages).
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import Any, Final

from sampan.build.instructions.model import Mount
from sampan.errors import InvalidArgument
from sampan.spec.sizes import parse_size

_TYPES: Final = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING: Final = ("shared", "private", "locked")
_ALIASES: Final = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly",
                   "rw": "readwrite"}  # fmt: skip
_ONLY: Final = {
    "from": ("bind", "cache"), "source": ("bind", "cache", "secret"), "size": ("tmpfs",),
    "sharing": ("cache",), "mode": ("cache", "secret", "ssh"), "uid": ("cache", "secret", "ssh"),
    "gid": ("cache", "secret", "ssh"), "id": ("cache", "secret", "ssh"),
    "required": ("secret", "ssh"), "env": ("secret",),
}  # fmt: skip


def read_mount(text: str) -> Mount:
    """Return what one --mount says. Raises InvalidArgument for fields that do not belong to it."""
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InvalidArgument(f"invalid mount: {error}") from error
    given: dict[str, str] = {}
    for part in fields:
        key, equals, value = part.partition("=")
        key = _ALIASES.get(key.strip().lower(), key.strip().lower())
        if not equals and key not in ("readonly", "readwrite", "required"):
            raise InvalidArgument(f"invalid field '{part}' must be a key=value pair")
        given[key] = value if equals else "true"
    kind = given.pop("type", "bind").lower()
    if kind not in _TYPES:
        raise InvalidArgument(f'unsupported mount type "{kind}"')
    values: dict[str, Any] = {"type": kind, "read_only": kind == "bind"}
    for key, value in given.items():
        if key not in _FIELDS:
            raise InvalidArgument(f"unexpected key '{key}' in '{key}={value}'")
        if kind not in _ONLY.get(key, _TYPES):
            raise InvalidArgument(f"unexpected key '{key}' for mount type '{kind}'")
        name, read = _FIELDS[key]
        values[name] = read(value)
    if not values.get("target") and kind in ("bind", "cache", "tmpfs"):
        raise InvalidArgument(f"target required for mount type '{kind}'")
    return Mount(**values)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise InvalidArgument(f"invalid boolean: {text}")
    return text.lower() in ("true", "1")


def _octal(text: str) -> int:
    try:
        return int(text, 8) & 0o7777
    except ValueError as error:
        raise InvalidArgument(f"invalid value {text} for mode") from error


def _identity(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise InvalidArgument(f"invalid id {text}")
    return int(text)


def _sharing(text: str) -> str:
    if text not in _SHARING:
        raise InvalidArgument(f'unsupported sharing value "{text}"')
    return text


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid value for size: {text}") from error


_FIELDS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "source": ("source", str),
    "target": ("target", str),
    "from": ("origin", str),
    "readonly": ("read_only", _boolean),
    "readwrite": ("read_only", lambda text: not _boolean(text)),
    "id": ("id", str),
    "sharing": ("sharing", _sharing),
    "required": ("required", _boolean),
    "mode": ("mode", _octal),
    "uid": ("uid", _identity),
    "gid": ("gid", _identity),
    "size": ("size", _size),
    "env": ("env", str),
}
