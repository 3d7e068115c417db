"""Where in a Dockerfile an error comes from, for those who show it in their own way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

_ATTRIBUTE: Final = "dockerfile_fault"
E = TypeVar("E", bound=BaseException)


@dataclass(frozen=True, slots=True)
class Fault:
    """A place in a file, and what is wrong there, without the lines around it."""

    sentence: str
    name: str  # of the file
    content: bytes  # as others may see it
    first: int  # line, from 1
    last: int


def mark(error: E, fault: Fault | None) -> E:
    """Say where an error comes from; return it."""
    if fault is not None:
        setattr(error, _ATTRIBUTE, fault)
    return error


def fault_of(error: BaseException) -> Fault | None:
    """Return where an error comes from, None if it is not from a Dockerfile."""
    found = getattr(error, _ATTRIBUTE, None)
    return found if isinstance(found, Fault) else None


def sentence_of(error: BaseException) -> str:
    """Return what is wrong, without the lines around it."""
    fault = fault_of(error)
    return fault.sentence if fault else str(error)
