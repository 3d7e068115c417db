"""Clients of builds that have a session: they are asked when something of theirs is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from sampan.api.buildkit.layouts import archive_of
from sampan.api.buildkit.material import SENT, fetch_folder
from sampan.api.buildkit.sessions import Session
from sampan.build.built import Built
from sampan.build.files.tree import Tree
from sampan.build.policing import Policy, Source, check
from sampan.build.state import State
from sampan.distribution.credentials import Credentials
from sampan.errors import NotFound
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference

_HUB: Final = "registry-1.docker.io"


class SessionClient:
    """See build.worker.Clients."""

    def __init__(
        self,
        session: Session,
        results: Callable[[str], Built] | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._session, self._results, self.policy = session, results, policy
        self.secret, self.forward = session.secret, session.forward
        self.check_agent = session.check_agent

    async def credentials(self, reference: Reference) -> Credentials | None:
        """Return what the client shows to the registry of an image."""
        host = _HUB if reference.domain == "docker.io" else reference.domain
        username, secret = await self._session.credentials(host)
        if not username and not secret:
            return None
        if not username:
            return Credentials(identity_token=secret)
        return Credentials(username=username, password=secret)

    async def folder(self, name: str, tree: Tree) -> None:
        """Put what the client's folder has, but what its `.dockerignore` means, into a tree."""
        await check(self.policy, Source(f"local://{name}"))
        await fetch_folder(self._session, name, tree)

    async def archive(self, name: str) -> AsyncIterator[bytes]:
        """Yield a folder that the client sends as an archive."""
        await check(self.policy, Source(f"{SENT}{name}"))
        async for piece in self._session.upload(name):
            yield piece

    async def layout(
        self, store: str, digest: str, platform: Platform | None
    ) -> AsyncIterator[bytes]:
        """Yield an image of an OCI layout that the client has, as an archive."""
        await check(self.policy, Source(f"oci-layout://{store}@{digest}"))
        async for piece in archive_of(self._session, store, digest, platform or Platform.host()):
            yield piece

    def result(self, name: str) -> State:
        """Return what another build of the client has made."""
        if self._results is None:
            raise NotFound(f"no such result: {name}")
        return self._results(name).state
