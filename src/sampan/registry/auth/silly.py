"""Auth `silly`: any Authorization header will do. For trials of clients."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from sampan.registry.auth.access import Everything, Grant, Scope
from sampan.registry.errors import RegistryError


class Silly:
    """Asks for a token and takes anything."""

    def __init__(self, realm: str, service: str) -> None:
        self._challenge = f'Bearer realm="{realm}",service="{service}"'

    def blocks(self, request: Request) -> bool:
        return False

    def authorize(self, request: Request, wanted: Sequence[Scope], needed: Scope | None) -> Grant:
        if request.headers.get("authorization"):
            return Everything("silly")
        scope = " ".join(map(str, wanted))
        challenge = f'{self._challenge},scope="{scope}"' if scope else self._challenge
        raise RegistryError("UNAUTHORIZED", headers={"WWW-Authenticate": challenge})
