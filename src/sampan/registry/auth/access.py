"""Who may do what: what every request is asked, and the answer without any accounts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Scope:
    """Something that a request needs: `repository:team/app:pull,push`."""

    type: str
    name: str
    actions: tuple[str, ...]
    kind: str = ""  # class of a repository: `repository(plugin):team/app:pull,push`

    def __str__(self) -> str:
        kind = f"({self.kind})" if self.kind else ""
        return f"{self.type}{kind}:{self.name}:{','.join(self.actions)}"


class Grant(Protocol):
    """What a client may do."""

    @property
    def user(self) -> str: ...

    def allows(self, scope: Scope) -> bool:
        """Tell whether all of a scope is granted."""

    def classes(self, repository: str) -> Collection[str]:
        """Return which classes of a repository are granted; none where classes are not told."""


class Access(Protocol):
    """A way to find out who a client is."""

    def blocks(self, request: Request) -> bool:
        """Tell whether it takes so long to find out that a thread has to do it."""

    def authorize(self, request: Request, wanted: Sequence[Scope], needed: Scope | None) -> Grant:
        """Return what a client may do, which is at least `needed`.

        Raises UNAUTHORIZED with a challenge for `wanted`.
        """


@dataclass(frozen=True, slots=True)
class Everything:
    """The grant of a known user where users have no separate rights."""

    user: str = ""

    def allows(self, scope: Scope) -> bool:
        return True

    def classes(self, repository: str) -> Collection[str]:
        return ()


class NoAccess:
    """No accounts: everybody may do everything."""

    def blocks(self, request: Request) -> bool:
        return False

    def authorize(self, request: Request, wanted: Sequence[Scope], needed: Scope | None) -> Grant:
        return Everything()
