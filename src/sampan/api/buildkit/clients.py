"""Clients of builds that have a session: they are asked when something of theirs is needed."""

from __future__ import annotations

from typing import Final

from sampan.api.buildkit.sessions import Session
from sampan.distribution.credentials import Credentials
from sampan.spec.reference import Reference

_HUB: Final = "registry-1.docker.io"


class SessionClient:
    """See build.worker.Clients."""

    def __init__(self, session: Session) -> None:
        self._session = session
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
