"""All registries: what is shared between repositories (connections, tokens), login and search."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Self

from sampan.distribution.config import RegistryConfig
from sampan.distribution.credentials import ANONYMOUS, Credentials
from sampan.distribution.endpoints import Endpoint
from sampan.distribution.lists import Catalog, all_pages
from sampan.distribution.login import Login, log_in
from sampan.distribution.refusals import Refusal
from sampan.distribution.repository import Repository
from sampan.distribution.search import SearchResult, search
from sampan.distribution.session import Memory, Session
from sampan.distribution.tokens import Tokens
from sampan.distribution.transport import FailedRequest, Transport
from sampan.spec.reference import Reference

_FAREWELL_SECONDS = 2.0


class Registries:
    """The client of every registry. Its connections and tokens end with `async with`."""

    def __init__(self, config: RegistryConfig | None = None) -> None:
        self.config = config or RegistryConfig()
        self._transport = Transport(self.config)
        self._tokens = Tokens(self._transport)
        self._memory = Memory()
        self._farewells: set[asyncio.Task[None]] = set()
        self._is_open = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Let what is being ended at registries finish, for a moment, and hang up."""
        self._is_open = False
        if self._farewells:
            _, late = await asyncio.wait(self._farewells, timeout=_FAREWELL_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._transport.client.close()

    def configure(self, config: RegistryConfig) -> None:
        """Use other settings from now on; what is under way ends with the old ones."""
        if config == self.config:
            return
        self._transport.client.close()
        self.config = config
        self._transport = Transport(config)
        self._tokens = Tokens(self._transport)
        self._memory = Memory()

    def repository(
        self, reference: Reference, credentials: Credentials | None = None, *, push: bool = False
    ) -> Repository:
        """Return the repository of `reference`, asked with `credentials`; nothing is sent yet.

        With `push`, the right to push is asked for, and mirrors are left out.
        """
        endpoints = self._transport.endpoints
        mirrors = [] if push else endpoints.mirrors_of(reference.domain)
        actions = "pull,push" if push else "pull"

        def session(endpoint: Endpoint) -> Session:
            # Credentials are for the registry itself: a mirror is somebody else.
            shown = ANONYMOUS if endpoint.is_mirror else credentials or ANONYMOUS
            scope = f"repository:{endpoint.prefix}{reference.path}:{actions}"
            return Session(self._transport, self._tokens, self._memory, endpoint, shown, (scope,))

        sessions = [session(endpoint) for endpoint in (*mirrors, endpoints.of(reference.domain))]
        return Repository(reference, sessions, self._memory, self._bid_farewell)

    def repository_at(
        self, endpoint: Endpoint, path: str, credentials: Credentials = ANONYMOUS
    ) -> Repository:
        """Return a repository of a server of the caller's choice, to pull from."""
        scope = f"repository:{path}:pull"
        session = Session(
            self._transport, self._tokens, self._memory, endpoint, credentials, (scope,)
        )
        reference = Reference(endpoint.name, path)
        return Repository(reference, [session], self._memory, self._bid_farewell)

    async def catalog(self, endpoint: Endpoint, credentials: Credentials = ANONYMOUS) -> list[str]:
        """Return the names of all repositories that a server lists. Raises Upstream."""
        session = Session(
            *(self._transport, self._tokens, self._memory, endpoint, credentials),
            ("registry:catalog:*",),
        )
        try:
            return await all_pages(
                session, "_catalog", Catalog, lambda page: page.repositories, "repositories"
            )
        except Refusal as error:
            raise error.error() from None
        except FailedRequest as error:
            raise error.error() from None

    async def pause(self, attempt: int) -> None:
        """Wait before an attempt of what failed with `may_pass`: longer after each."""
        await self._transport.pause(attempt)

    async def login(self, server: str, credentials: Credentials) -> Login:
        """Check credentials with a registry: "Login Succeeded" and, if it gives one, a token.

        `server` is host[:port], an address with a scheme, or "" for Docker Hub. Raises
        Unauthorized if they are wrong, Upstream if the registry cannot be asked.
        """
        return await log_in(self._transport, self._tokens, server, credentials)

    async def search(
        self, term: str, limit: int = 25, credentials: Credentials | None = None
    ) -> list[SearchResult]:
        """Return what `[host/]term` finds, at most `limit` (1 to 100) results.

        Raises InvalidArgument for a bad term or limit, Upstream if the registry fails.
        """
        return await search(self._transport, self._tokens, term, limit, credentials or ANONYMOUS)

    def _bid_farewell(self, work: Coroutine[Any, Any, None]) -> None:
        if not self._is_open:
            work.close()
            return
        task = asyncio.ensure_future(work)
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)
