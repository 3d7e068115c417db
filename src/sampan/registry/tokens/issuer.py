"""The token service as a library: who asks, what the rules grant, and the token that says it."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sampan.registry.auth.access import Scope
from sampan.registry.tokens.accounts import Accounts
from sampan.registry.tokens.keys import KeyRing
from sampan.registry.tokens.rules import Identity, grant, parse_scope
from sampan.registry.tokens.sessions import Sessions
from sampan.registry.tokens.throttle import Throttle

log = logging.getLogger(__name__)
SCOPES = 100  # that one token may have


@dataclass(frozen=True)
class Asked:
    """What a client asks for."""

    service: str
    scopes: tuple[str, ...] = ()
    client: str = ""
    offline: bool = False  # a refresh token is wanted too
    address: str = ""


@dataclass(frozen=True)
class Issued:
    """A token for somebody, in what is answered."""

    user: str
    body: dict[str, Any]


class Refused(Exception):
    """An answer that is no token. `error` is OAuth 2's word, `code` the registries'."""

    def __init__(self, status: int, error: str, code: str, message: str, wait: float = 0) -> None:
        super().__init__(message)
        self.status, self.error, self.code, self.wait = status, error, code, wait


@dataclass(frozen=True)
class Terms:
    """For whom tokens are, and for how long."""

    issuer: str
    services: Sequence[str]
    lifetime: float = 300.0
    chain: bool = True  # tokens carry the certificate of their key


class Issuer:
    """Gives tokens. Calls block (bcrypt, SQLite); threads may share it."""

    def __init__(
        self,
        terms: Terms,
        accounts: Accounts,
        keys: KeyRing,
        sessions: Sessions,
        throttle: Throttle,
    ) -> None:
        self.terms = terms
        self.accounts = accounts
        self.keys = keys
        self.sessions = sessions
        self._throttle = throttle

    def by_nobody(self, asked: Asked) -> Issued:
        """Answer a client that does not say who it is."""
        self._check(asked)
        return self._answer(asked, Identity())

    def by_password(self, asked: Asked, name: str, password: str) -> Issued:
        """Answer a user with a password; a wrong one is 401, too many of them 429."""
        self._check(asked)
        self._may_try(name, asked.address)
        identity = self.accounts.check(name, password)
        if identity is None:
            self._throttle.failed(name, asked.address)
            log.warning("%s gave a wrong name or password for %r", asked.address, name[:64])
            raise Refused(401, "invalid_grant", "UNAUTHORIZED", "incorrect username or password")
        self._throttle.succeeded(name, asked.address)
        answer = self._answer(asked, identity)
        if asked.offline:
            answer.body["refresh_token"] = self._begin(asked, name, password)
        return answer

    def _begin(self, asked: Asked, name: str, password: str) -> str:
        """Begin a login, unless the password was changed since we have looked at it."""
        token = self.sessions.begin(name, asked.service, asked.client)
        if self.accounts.check(name, password) is None:
            self.sessions.revoke(token)
            raise Refused(401, "invalid_grant", "UNAUTHORIZED", "incorrect username or password")
        return token

    def by_refresh_token(self, asked: Asked, token: str) -> Issued:
        """Answer whoever shows a refresh token."""
        self._check(asked)
        self._may_try("", asked.address)
        used = self.sessions.use(token, asked.service)
        identity = self.accounts.identity(used[0]) if used else None
        if used is None or identity is None:
            self._throttle.failed("", asked.address)
            log.warning("%s showed a refresh token that is not valid", asked.address)
            raise Refused(
                *(401, "invalid_grant", "UNAUTHORIZED"),
                "the refresh token is not valid (any more): log in again",
            )
        answer = self._answer(asked, identity)
        if used[1]:
            answer.body["refresh_token"] = used[1]
        return answer

    def _check(self, asked: Asked) -> None:
        if asked.service not in self.terms.services:
            raise Refused(
                *(400, "invalid_request", "UNSUPPORTED"),
                f"no tokens are given for the service {asked.service[:64]!r}",
            )
        if len(asked.scopes) > SCOPES:
            raise Refused(
                400, "invalid_scope", "UNSUPPORTED", f"a token has at most {SCOPES} scopes"
            )

    def _may_try(self, name: str, address: str) -> None:
        wait = self._throttle.wait(name, address)
        if wait:
            raise Refused(
                *(429, "slow_down", "TOOMANYREQUESTS"),
                f"too many failed logins: try again in {int(wait) + 1} seconds",
                wait,
            )

    def _answer(self, asked: Asked, identity: Identity) -> Issued:
        wanted = [scope for scope in map(parse_scope, asked.scopes) if scope]
        granted = grant(self.accounts.rules(), identity, wanted)
        now = time.time()
        token = self.keys.sign(self._claims(asked, identity, granted, int(now)), self.terms.chain)
        body = {
            "token": token,
            "access_token": token,
            "expires_in": int(self.terms.lifetime),
            "issued_at": datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "scope": " ".join(map(str, granted)),
        }
        return Issued(identity.user, body)

    def _claims(
        self, asked: Asked, identity: Identity, granted: Sequence[Scope], now: int
    ) -> dict[str, Any]:
        return {
            "iss": self.terms.issuer,
            "sub": identity.user,
            "aud": asked.service,
            "exp": now + int(self.terms.lifetime),
            "nbf": now,
            "iat": now,
            "jti": secrets.token_hex(16),
            "access": [
                {"type": scope.type, "name": scope.name, "actions": list(scope.actions)}
                | ({"class": scope.kind} if scope.kind else {})
                for scope in granted
            ],
        }
