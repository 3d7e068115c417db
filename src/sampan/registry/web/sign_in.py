"""Browsers and the registry's authentication: a browser knows Basic only, whatever is asked for.

Where the registry wants tokens, name and password are taken to the token server, as a client does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from starlette.requests import Request

from sampan.registry.auth.access import Access, Grant, Scope
from sampan.registry.auth.basic import credentials
from sampan.registry.errors import RegistryError
from sampan.registry.tokens.issuer import Asked, Issuer, Refused

PATIENCE = 10.0  # seconds for a token server
LIMIT = 64 << 10  # bytes of its answer
REMEMBERED = 1000  # tokens
LEAST = 10.0  # seconds that a token must still be valid to be used again
DEFAULT_LIFE = 60.0  # of a token, in seconds, where the server does not say


class SignIn(Protocol):
    """Somebody who gives tokens."""

    def token(
        self, scopes: Sequence[Scope], user: str, password: str, address: str
    ) -> tuple[str, float]:
        """Return a token and its life in seconds; an empty one if the password is wrong.

        Without a user, it is a token for nobody in particular. `address` is the browser's: who
        guesses there makes nobody else wait. Blocks.
        """


class IssuerSignIn:
    """The token service in our own process."""

    def __init__(self, issuer: Issuer, service: str) -> None:
        self._issuer, self._service = issuer, service

    def token(
        self, scopes: Sequence[Scope], user: str, password: str, address: str
    ) -> tuple[str, float]:
        asked = Asked(self._service, tuple(map(str, scopes)), "web", address=address)
        try:
            if user:
                answer = self._issuer.by_password(asked, user, password)
            else:
                answer = self._issuer.by_nobody(asked)
        except Refused as error:
            if error.status == 401:
                return "", 0
            raise RegistryError(error.code, message=str(error), status=error.status) from None
        return str(answer.body["token"]), float(answer.body["expires_in"])


class RealmSignIn:
    """A token server elsewhere."""

    def __init__(self, realm: str, service: str) -> None:
        self._realm, self._service = realm, service
        self._opener = urllib.request.build_opener(_NoRedirects)

    def token(
        self, scopes: Sequence[Scope], user: str, password: str, address: str
    ) -> tuple[str, float]:
        query = [("service", self._service), *(("scope", str(scope)) for scope in scopes)]
        mark = "&" if "?" in self._realm else "?"
        url = f"{self._realm}{mark}{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url)  # noqa: S310 http or https: pages are refused others
        if user:
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {pair}")
        try:
            with self._opener.open(request, timeout=PATIENCE) as reply:
                found: Any = msgspec.json.decode(reply.read(LIMIT))
            token = found.get("token") or found.get("access_token")
            return str(token or ""), float(found.get("expires_in") or DEFAULT_LIFE)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (401, 403):
                return "", 0
            raise _away(f"it answers {error.code}") from None
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise _away(str(error)) from None


def _away(why: str) -> RegistryError:
    return RegistryError("UNAVAILABLE", message=f"the token server gives no token: {why}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """A password goes where it was meant to go, or nowhere."""


class Door:
    """Finds out what the user of a browser may do. Calls block."""

    def __init__(self, access: Access, sign_in: SignIn | None) -> None:
        self._access = access
        self._sign_in = sign_in
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._tokens: dict[bytes, tuple[str, float]] = {}

    def grant(self, request: Request, scope: Scope) -> Grant:
        """Return what a user may do, which is at least `scope`.

        Raises UNAUTHORIZED for whom has to say who they are, and DENIED for who has said it.
        """
        return self._admit(request, scope)[1]

    def admitted(self, request: Request, scope: Scope) -> Request:
        """Return the request as a client of the API would send it."""
        return self._admit(request, scope)[0]

    def _admit(self, request: Request, scope: Scope) -> tuple[Request, Grant]:
        try:
            return request, self._access.authorize(request, [scope], scope)
        except RegistryError as error:
            challenge = error.headers.get("WWW-Authenticate", "")
            if not (self._sign_in and challenge.lower().startswith("bearer")):
                raise
        given = credentials(request.headers.get("authorization", ""))
        address = request.client.host if request.client else ""
        token = self._token(self._sign_in, scope, *(given or ("", "")), address)
        if not token:
            raise RegistryError("UNAUTHORIZED")
        bearing = _with_authorization(request, f"Bearer {token}")
        try:
            return bearing, self._access.authorize(bearing, [scope], scope)
        except RegistryError:
            raise RegistryError("DENIED" if given else "UNAUTHORIZED") from None

    def _token(self, sign_in: SignIn, scope: Scope, user: str, password: str, address: str) -> str:
        mark = hmac.digest(self._key, f"{scope}\0{user}\0{password}".encode(), hashlib.sha256)
        now = time.monotonic()
        with self._lock:
            found = self._tokens.get(mark)
        if found and found[1] > now:
            return found[0]
        token, life = sign_in.token([scope], user, password, address)
        with self._lock:
            if len(self._tokens) >= REMEMBERED:
                self._tokens.clear()
            if token:
                self._tokens[mark] = (token, now + life - LEAST)
        return token


def _with_authorization(request: Request, value: str) -> Request:
    kept = [(k, v) for k, v in request.scope["headers"] if k != b"authorization"]
    headers = [*kept, (b"authorization", value.encode())]
    return Request({**request.scope, "headers": headers})
