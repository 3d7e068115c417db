"""What a client expects to be at an address before it reads or changes it.

Source: RFC 9110, section 13; the tag of an entity is its digest. With it two clients that change
one tag do not undo each other's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sampan.registry.errors import RegistryError


@dataclass(frozen=True, slots=True)
class Condition:
    """The headers If-Match and If-None-Match of a request; empty where they are missing."""

    match: str = ""
    none_match: str = ""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Condition:
        """Return the condition of a request with these headers."""
        return cls(
            headers.get("if-match", "").strip(),
            headers.get("if-none-match", "").strip(),
        )

    def has(self, digest: str) -> bool:
        """Tell whether the client says that it has this content: then it need not be sent."""
        return bool(digest) and _names(self.none_match, digest)

    def demand_match(self, digest: str) -> None:
        """Raise 412 if what is there (nothing: "") is not what the client expects."""
        if self.match and not (digest and _names(self.match, digest)):
            raise _failed("If-Match", digest)

    def demand(self, digest: str) -> None:
        """Raise 412 if what is there (nothing: "") forbids a change."""
        self.demand_match(digest)
        if self.has(digest):
            raise _failed("If-None-Match", digest)


ALWAYS = Condition()


def _names(given: str, digest: str) -> bool:
    # Not every client writes the quotes.
    return given in ("*", digest) or f'"{digest}"' in given


def _failed(header: str, digest: str) -> RegistryError:
    there = f"{digest} is there" if digest else "nothing is there"
    return RegistryError(
        "DENIED", {"digest": digest}, message=f"{header} is not met: {there}", status=412
    )
