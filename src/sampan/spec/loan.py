"""What a step of a build gets for its one start: what is not to be stored, logged or shown.

Contents are in no `repr`, and nothing here can be encoded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class LentFile:
    """A secret as a file; ids are those of the container."""

    target: str
    mode: int
    uid: int
    gid: int
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LentAgent:
    """A socket with the SSH agent of the client behind it."""

    target: str
    mode: int
    uid: int
    gid: int
    forward: Callable[[int], Awaitable[None]]  # serves a connection, by its descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class LentCopy:
    """Files that the step may change as it likes: nobody has the changes."""

    target: str
    chain: str  # the layers that they are in
    subpath: str  # in the root of those


@dataclass(slots=True, kw_only=True)
class Loan:
    """All that one step gets."""

    files: list[LentFile] = field(default_factory=list)
    agents: list[LentAgent] = field(default_factory=list)
    copies: list[LentCopy] = field(default_factory=list)
    env: list[str] = field(default_factory=list, repr=False)  # NAME=value

    def __bool__(self) -> bool:
        return bool(self.files or self.agents or self.copies or self.env)
