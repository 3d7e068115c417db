"""The options of one storage driver, read and checked, each asked for by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from sampan.errors import InvalidArgument

KiB, MiB = 1 << 10, 1 << 20
TRUE, FALSE = ("true", "1", "t"), ("false", "0", "f", "")


class Options:
    """What stands below `storage.DRIVER`. Numbers and flags may be written as strings."""

    def __init__(self, given: Mapping[str, Any], place: str) -> None:
        self._given = {str(key).lower(): value for key, value in given.items()}
        self.place = place

    def _wrong(self, name: str, message: str) -> InvalidArgument:
        return InvalidArgument(f"{self.place}.{name}: {message}")

    def text(self, name: str, default: str = "", needed: bool = False) -> str:
        """Return a string."""
        value = self._given.get(name)
        found = default if value is None else str(value)
        if needed and not found:
            raise self._wrong(name, "is required")
        return found

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a map; empty if it is not given."""
        value = self._given.get(name) or {}
        if not isinstance(value, Mapping):
            raise self._wrong(name, "must be a section")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false."""
        value = self._given.get(name)
        if value is None:
            return default
        word = str(value).lower()
        if word not in TRUE + FALSE:
            raise self._wrong(name, f"must be true or false, not {value!r}")
        return word in TRUE

    def number(self, name: str, default: int, least: int = 0, most: int | None = None) -> int:
        """Return a whole number within its bounds."""
        value = self._given.get(name)
        if value is None or value == "":
            return default
        try:
            found = int(str(value))
        except ValueError:
            raise self._wrong(name, f"must be a whole number, not {value!r}") from None
        if found < least or (most is not None and found > most):
            bounds = f"at least {least}" if most is None else f"between {least} and {most}"
            raise self._wrong(name, f"must be {bounds}, not {found}")
        return found

    def word(self, name: str, choices: Sequence[str], default: str, upper: bool = False) -> str:
        """Return one of several words."""
        found = self.text(name, default)
        found = found.upper() if upper else found.lower()
        if found not in choices:
            raise self._wrong(name, f"must be one of {', '.join(choices)}, not {found!r}")
        return found

    def origin(self, name: str) -> str:
        """Return a scheme and a host; empty if it is not given."""
        found = self.text(name)
        parts = urlsplit(found)
        rest = parts.path.strip("/") or parts.query or parts.fragment
        if found and (parts.scheme not in ("http", "https") or not parts.netloc or rest):
            raise self._wrong(name, "must be a scheme and a host, and no more")
        return found.rstrip("/")
