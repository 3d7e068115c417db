"""Access tokens: how they are got from a registry's token server, and kept while they last.

Source: distribution docs/spec/auth/token.md and oauth.md; moby registry/auth.go.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec

from sampan.distribution.challenges import Challenge
from sampan.distribution.credentials import Credentials
from sampan.distribution.refusals import Refusal, refusal
from sampan.distribution.transport import Call, Transport, basic
from sampan.errors import InvalidArgument, Unauthorized, Upstream
from sampan.http.exchange import Answer
from sampan.http.urls import Url
from sampan.spec.image import nanoseconds

CLIENT = "docker"
_ANSWER_BYTES = 1 << 20
_LEAST_SECONDS = 60  # token.md: what says less, or nothing, lasts as long
_MARGIN_SECONDS = 10.0  # a token is not used in its last moments
_KEPT = 256


class _Answer(msgspec.Struct):
    token: str | None = ""
    access_token: str | None = ""
    refresh_token: str | None = ""
    expires_in: int | float | None = 0
    issued_at: str | None = ""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token; `refresh` is a refresh token, if one was asked for and given."""

    value: str
    expires: float  # on the clock of `Tokens`
    refresh: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a token is wanted for."""

    realm: str
    service: str
    scopes: tuple[str, ...]
    credentials: Credentials
    allows_http: bool = False  # the registry itself is insecure

    @classmethod
    def of(
        cls,
        challenge: Challenge,
        scopes: tuple[str, ...],
        credentials: Credentials,
        allows_http: bool,
    ) -> Wish:
        """Return what a Bearer challenge asks for."""
        parameters = challenge.parameters
        realm, service = parameters.get("realm", ""), parameters.get("service", "")
        return cls(realm, service, scopes, credentials, allows_http)


class Tokens:
    """The tokens of all registries. One wish is sent once, whoever has it at the same time."""

    def __init__(self, transport: Transport, clock: Callable[[], float] = time.monotonic) -> None:
        self._transport = transport
        self._clock = clock
        self._kept: OrderedDict[Wish, Token] = OrderedDict()
        self._asking: dict[Wish, asyncio.Lock] = {}

    async def get(self, wish: Wish, *, stale: str = "") -> str:
        """Return a token for a wish, other than `stale`, which the registry has refused.

        Raises Unauthorized for wrong credentials, Upstream if the token server fails.
        """
        lock = self._asking.setdefault(wish, asyncio.Lock())
        try:
            async with lock:
                token = self.kept(wish)
                if token is None or token == stale:
                    token = self._keep(wish, await self.fetch(wish))
                return token
        finally:
            if not lock.locked():
                self._asking.pop(wish, None)

    def kept(self, wish: Wish) -> str | None:
        """Return a token that is here and still good."""
        token = self._kept.get(wish)
        if token is None or token.expires - _MARGIN_SECONDS <= self._clock():
            return None
        self._kept.move_to_end(wish)
        return token.value

    def _keep(self, wish: Wish, token: Token) -> str:
        self._kept[wish] = token
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return token.value

    async def fetch(self, wish: Wish, *, offline: bool = False) -> Token:
        """Ask the token server; with `offline`, for a refresh token too."""
        realm = self._realm(wish)
        try:
            if wish.credentials.identity_token:
                return await self._post(realm, wish, "refresh_token", offline)
            try:
                return await self._get(realm, wish, offline)
            except Refusal as error:
                if error.status not in (404, 405) or not wish.credentials.username:
                    raise
                return await self._post(realm, wish, "password", offline)
        except Refusal as error:
            if error.status in (400, 401, 403):  # oauth.md: a refused grant is a 400
                raise Unauthorized(_unauthorized(error)) from None
            told = f"failed to fetch the token of {realm.authority}: {error}"
            raise error.failure(told) from None

    def _realm(self, wish: Wish) -> Url:
        try:
            realm = Url.parse(wish.realm)
        except InvalidArgument:
            raise Upstream("unable to handle the registry's request for a token") from None
        if realm.scheme != "https" and not wish.allows_http:
            raise Upstream(f"the token server {realm.authority} of a secure registry is not secure")
        return realm

    async def _get(self, realm: Url, wish: Wish, offline: bool) -> Token:
        query = [("service", wish.service)] if wish.service else []
        query += [("scope", scope) for scope in wish.scopes]
        headers = []
        if wish.credentials.username:
            query.append(("account", wish.credentials.username))
            headers.append(basic(wish.credentials))
        if offline:
            query += [("offline_token", "true")]
        query.append(("client_id", CLIENT))
        url = realm.with_query(urlencode(query))
        async with await self._transport.send(url, Call("GET", tuple(headers))) as answer:
            return await self._token(answer, wish)

    async def _post(self, realm: Url, wish: Wish, grant: str, offline: bool) -> Token:
        form = {"grant_type": grant, "service": wish.service, "client_id": CLIENT}
        form["scope"] = " ".join(wish.scopes)
        if grant == "password":
            form |= {"username": wish.credentials.username, "password": wish.credentials.password}
        else:
            form["refresh_token"] = wish.credentials.identity_token
        if offline:
            form["access_type"] = "offline"
        kind = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
        body = urlencode(form).encode()
        call = Call("POST", (kind,), body, is_secret=True)
        async with await self._transport.send(realm, call) as answer:
            return await self._token(answer, wish)

    async def _token(self, answer: Answer, wish: Wish) -> Token:
        if answer.status != 200:
            raise await refusal(answer)
        body = await self._transport.read(answer, _ANSWER_BYTES)
        try:
            told = msgspec.json.decode(body, type=_Answer)
        except (ValueError, RecursionError):
            told = _Answer()
        value = told.token or told.access_token or ""
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            raise Upstream("authorization server did not include a token in the response")
        return Token(value, self._clock() + _seconds(told), told.refresh_token or "")


def _seconds(told: _Answer) -> float:
    """Return how long a token still lasts: servers may give one that they made earlier."""
    lasts = min(max(float(told.expires_in or 0), _LEAST_SECONDS), 86400.0)
    if told.issued_at:
        try:
            age = time.time() - nanoseconds(told.issued_at) / 1e9
        except InvalidArgument:
            return lasts
        if 0 < age < lasts:
            return lasts - age
    return lasts


def _unauthorized(error: Refusal) -> str:
    text = str(error)
    if error.code in ("UNAUTHORIZED", "DENIED", "TOOMANYREQUESTS"):
        return text
    return "unauthorized: authentication required" if error.status != 401 else text
