"""The templates of the pages: everything is escaped, and what cannot be seen is made visible."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

STATIC = {
    "style.css": "text/css; charset=utf-8",
    "script.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
# Control characters, and those that turn the direction of what follows: they can make one thing
# look like another.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_FINE = "\n\t\N{SOFT HYPHEN}"


def visible(value: Any) -> Any:
    """Return a text in which each invisible character is written out."""
    if type(value) is not str or (value.isascii() and value.isprintable()):
        return value
    return "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in _INVISIBLE and c not in _FINE else c
        for c in value
    )


def size(count: int | None) -> str:
    """Return a number of bytes for people: decimal units, as docker images shows them."""
    if count is None:
        return "–"
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.3g} {unit}"


def short(digest: str) -> str:
    """Return the first digits of a digest."""
    algorithm, _, digits = digest.partition(":")
    return f"{algorithm}:{digits[:12]}" if digits else digest[:19]


def moment(text: str) -> str:
    """Return a time of RFC 3339 for people; what is none as it is."""
    try:
        return datetime.fromisoformat(text[:19]).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return text


def environment() -> Environment:
    """Return the templates, compiled when they are first used."""
    found = Environment(
        loader=PackageLoader("sampan.registry.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"size": size, "short": short, "moment": moment}
    return found


def static(name: str) -> bytes:
    """Return a file that browsers ask for."""
    return files("sampan.registry.web").joinpath("static", name).read_bytes()
