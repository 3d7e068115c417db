"""All registries: what is shared between repositories (connections, tokens), login and search."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from sampan.distribution.config import RegistryConfig
from sampan.distribution.credentials import Credentials
from sampan.distribution.repository import Repository
from sampan.errors import Unsupported
from sampan.spec.reference import Reference


@dataclass(frozen=True, slots=True)
class Login:
    """What a registry said to credentials."""

    status: str
    identity_token: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One repository that a search has found."""

    name: str
    description: str
    star_count: int
    is_official: bool
    is_automated: bool


class Registries:
    """The client of every registry. Its connections and tokens end with `async with`."""

    def __init__(self, config: RegistryConfig | None = None) -> None:
        self.config = config or RegistryConfig()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        raise Unsupported("registries are not served yet")

    def repository(
        self, reference: Reference, credentials: Credentials | None = None, *, push: bool = False
    ) -> Repository:
        """Return the repository of `reference`, asked with `credentials`; nothing is sent yet.

        With `push`, the right to push is asked for, and mirrors are left out.
        """
        raise Unsupported("registries are not served yet")

    async def login(self, server: str, credentials: Credentials) -> Login:
        """Check credentials with a registry: "Login Succeeded" and, if it gives one, a token.

        `server` is host[:port], an address with a scheme, or "" for Docker Hub. Raises
        Unauthorized if they are wrong, Upstream if the registry cannot be asked.
        """
        raise Unsupported("registries are not served yet")

    async def search(
        self, term: str, limit: int = 25, credentials: Credentials | None = None
    ) -> list[SearchResult]:
        """Return what `[host/]term` finds, at most `limit` (1 to 100) results.

        Raises InvalidArgument for a bad term or limit, Upstream if the registry fails.
        """
        raise Unsupported("registries are not served yet")
