"""What a registry asks for in WWW-Authenticate.

Source: RFC 9110, 11.3 and 11.6.1; distribution registry/client/auth/challenge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_LENGTH = 8192  # of one header
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?:\s+|\s*(?=,)|\s*$)")
_PARAMETER = re.compile(rf'[\s,]*({_WORD})\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"=]+)\s*(?:,|$)')
_SINGLE = re.compile(r"[A-Za-z0-9._~+/-]+=*\s*(?:,|$)")  # token68
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to show who one is: the scheme in small letters, and its parameters."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Return the challenges of all WWW-Authenticate headers; what makes no sense is left out."""
    found: list[Challenge] = []
    for text in headers:
        found += _parse(text[:_LENGTH])
    return found


def _parse(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = 0
    while match := _SCHEME.match(text, at):
        at = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(text, at):
            parameters.setdefault(parameter[1].lower(), _unquoted(parameter[2]))
            at = parameter.end()
        if not parameters and (single := _SINGLE.match(text, at)) and "=" in single[0]:
            at = single.end()
        found.append(Challenge(match[1].lower(), parameters))
    return found


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        return _ESCAPE.sub(r"\1", value[1:-1])
    return value


def challenge_for(challenges: Iterable[Challenge], scheme: str) -> Challenge | None:
    """Return the first challenge of a scheme."""
    return next((one for one in challenges if one.scheme == scheme), None)
