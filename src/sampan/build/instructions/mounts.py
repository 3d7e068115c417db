"""RUN --mount=type=…,…: its fields and what they must be.

Source: docker documentation, Dockerfile reference, "RUN --mount"; buildkit
frontend/dockerfile/instructions/commands_runmount.go, dockerfile2llb/convert_runmount.go (rules and
messages).
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import Any, Final

from sampan.build.instructions.model import Mount
from sampan.build.instructions.suggesting import hint
from sampan.build.instructions.words import boolean
from sampan.errors import InvalidArgument
from sampan.spec.sizes import parse_size

_TYPES: Final = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING: Final = ("shared", "private", "locked")
_ALIASES: Final = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly",
                   "rw": "readwrite"}  # fmt: skip
_SWITCHES: Final = ("readonly", "readwrite", "required")  # that may stand without a value
_OF_FILES: Final = ("cache", "secret", "ssh")
_ONLY: Final = {
    "size": (("tmpfs",), "unexpected key 'size' for mount type '{}'"),
    "required": (("secret", "ssh"), "unexpected key 'required' for mount type '{}'"),
    "sharing": (("cache",), "invalid cache sharing set for {} mount"),
    "mode": (_OF_FILES, 'mode not allowed for "{}" type mounts'),
    "uid": (_OF_FILES, 'uid not allowed for "{}" type mounts'),
    "gid": (_OF_FILES, 'gid not allowed for "{}" type mounts'),
    "from": (("bind", "cache", "tmpfs", "ssh"), "{} mount should not have a from"),
    "source": (("bind", "cache", "tmpfs", "secret"), "{} does not support source"),
    "env": (("secret",), "unexpected key 'env' for mount type '{}'"),
}


def origin_of(text: str) -> str:
    """Return the stage or image of one --mount, "" for none, before anything is expanded."""
    origin = dict(_fields(text)).get("from") or ""
    if "$" in origin[:-1]:
        raise InvalidArgument(
            "'from' doesn't support variable expansion, define alias stage instead"
        )
    return origin


def read_mount(text: str, expand: Callable[[str], str] = str) -> Mount:
    """Return what one --mount says; InvalidArgument for fields that do not belong to it.

    Values are expanded one by one: what a variable says is never another field.
    """
    given = {key: (part, value and expand(value)) for key, value, part in _split(text)}
    values: dict[str, Any] = {}
    _, kind = given.pop("type", ("", "bind"))
    kind = (kind or "").lower()
    if kind not in _TYPES:
        raise InvalidArgument(f'unsupported mount type "{kind}"{hint(kind, _TYPES)}')
    for key, (part, value) in given.items():
        if key not in _FIELDS:
            meant = hint(key, [*_FIELDS, *_ALIASES, "type"])
            raise InvalidArgument(f"unexpected key '{key}' in '{part}'{meant}")
        types, refusal = _ONLY.get(key, (_TYPES, ""))
        if kind not in types:
            raise InvalidArgument(refusal.format(kind))
        name, read = _FIELDS[key]
        values[name] = read(key, "true" if value is None else value)
    return _checked(Mount(**{"read_only": kind == "bind", **values, "type": kind}))


def _checked(mount: Mount) -> Mount:
    if mount.type == "secret":
        if not (mount.source or mount.target or mount.id):
            raise InvalidArgument("invalid secret mount. one of source, target required")
        if mount.source and mount.id:
            raise InvalidArgument("both source and id can't be set")
    elif mount.type != "ssh" and not mount.target:
        raise InvalidArgument(f"target required for mount type '{mount.type}'")
    return mount


def _fields(text: str) -> list[tuple[str, str | None]]:
    return [(key, value) for key, value, _ in _split(text)]


def _split(text: str) -> list[tuple[str, str | None, str]]:
    """Return names, values and fields as written; a switch without a value has None."""
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InvalidArgument(f"failed to parse csv mounts: {error}") from error
    found: list[tuple[str, str | None, str]] = []
    for part in fields:
        key, equals, value = part.partition("=")
        key = _ALIASES.get(key.lower(), key.lower())
        if not equals and key not in _SWITCHES:
            raise InvalidArgument(f"invalid field '{part}' must be a key=value pair")
        found.append((key, value if equals else None, part))
    return found


def _text(_: str, text: str) -> str:
    return text


def _writable(key: str, text: str) -> bool:
    return not boolean(key, text)


def _octal(_: str, text: str) -> int:
    if not text or len(text) > 11 or text.strip("01234567"):
        raise InvalidArgument(f"invalid value {text} for mode")
    return int(text, 8) & 0o7777


def _identity(key: str, text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else 1 << 32
    if number >= 1 << 32:
        raise InvalidArgument(f"invalid value {text} for {key}")
    return number


def _sharing(_: str, text: str) -> str:
    if text.lower() not in _SHARING:
        raise InvalidArgument(f'unsupported sharing value "{text}"')
    return text.lower()


def _size(_: str, text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid value for size: {text}") from error


_FIELDS: Final[dict[str, tuple[str, Callable[[str, str], Any]]]] = {
    "source": ("source", _text),
    "target": ("target", _text),
    "from": ("origin", _text),
    "readonly": ("read_only", boolean),
    "readwrite": ("read_only", _writable),
    "id": ("id", _text),
    "sharing": ("sharing", _sharing),
    "required": ("required", boolean),
    "mode": ("mode", _octal),
    "uid": ("uid", _identity),
    "gid": ("gid", _identity),
    "size": ("size", _size),
    "env": ("env", _text),
}
