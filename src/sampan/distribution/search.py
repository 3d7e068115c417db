"""`docker search`: the one request of the first registry API that has survived.

Source: moby registry/search.go, endpoint_v1.go, session.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote_plus

import msgspec

from sampan.distribution.challenges import challenge_for, parse_challenges
from sampan.distribution.credentials import Credentials
from sampan.distribution.endpoints import HUB, HUB_INDEX
from sampan.distribution.refusals import plain
from sampan.distribution.tokens import Tokens, Wish
from sampan.distribution.transport import Call, FailedRequest, Header, Transport, basic
from sampan.errors import InvalidArgument, Upstream
from sampan.http.urls import Url
from sampan.spec.reference import DEFAULT_DOMAIN

_ANSWER_BYTES = 4 << 20
_SCOPE = "registry:catalog:search"


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One repository that a search has found."""

    name: str
    description: str
    star_count: int
    is_official: bool
    is_automated: bool


class _Found(msgspec.Struct):
    name: str = ""
    description: str | None = ""
    star_count: int | None = 0
    is_official: bool | None = False
    is_automated: bool | None = False


class _Results(msgspec.Struct):
    results: list[_Found] | None = None


async def search(
    transport: Transport, tokens: Tokens, term: str, limit: int, credentials: Credentials
) -> list[SearchResult]:
    """Return what `[host/]term` finds. Raises InvalidArgument, Upstream, Unauthorized."""
    if not 1 <= limit <= 100:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, 100]")
    host, words = _split(term)
    query = f"search?q={quote_plus(words)}&n={limit}"
    try:
        base = await _base(transport, host)
        headers = await _shown(transport, tokens, base, credentials)
        return await _ask(transport, base.join(query), headers, limit)
    except FailedRequest as error:
        raise Upstream(str(error)) from None


def _split(term: str) -> tuple[str, str]:
    """Return the host that a term begins with, Docker Hub's if with none, and the rest."""
    if "://" in term:
        raise InvalidArgument('Invalid repository name (ex: "registry.domain.tld/myrepos")')
    first, slash, rest = term.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return HUB_INDEX, term
    if first in (DEFAULT_DOMAIN, HUB_INDEX, HUB):
        return HUB_INDEX, rest.removeprefix("library/")
    return first, rest


async def _base(transport: Transport, host: str) -> Url:
    """Return the address of the search API, after a ping as Docker does it."""
    base = Url.parse(f"https://{host}/v1/")
    if host == HUB_INDEX:
        return base
    try:
        (await transport.send(base.join("_ping"), Call("GET"))).close()
    except FailedRequest as error:
        if not await transport.endpoints.is_insecure(base):
            raise Upstream(
                f"invalid registry endpoint {base}: {error}. If this private registry supports only"
                " HTTP or HTTPS with an unknown CA certificate, please add"
                f" `--insecure-registry {host}` to the daemon's arguments. In the case of HTTPS,"
                " if you have access to the registry's CA certificate, no need for the flag;"
                f" simply place the CA certificate at /etc/docker/certs.d/{host}/ca.crt"
            ) from None
        base = Url.parse(f"http://{host}/v1/")
        try:
            (await transport.send(base.join("_ping"), Call("GET"))).close()
        except FailedRequest as second:
            raise Upstream(
                f'invalid registry endpoint "{base}". HTTPS attempt: {error}.'
                f" HTTP attempt: {second}"
            ) from None
    return base


async def _shown(
    transport: Transport, tokens: Tokens, base: Url, credentials: Credentials
) -> tuple[Header, ...]:
    """Return the headers that show who we are."""
    if credentials.identity_token and credentials.username:
        async with await transport.send(base.join("/v2/"), Call("GET")) as answer:
            challenges = parse_challenges(answer.headers.all("www-authenticate"))
        if bearer := challenge_for(challenges, "bearer"):
            insecure = await transport.endpoints.is_insecure(base)
            token = await tokens.get(Wish.of(bearer, (_SCOPE,), credentials, insecure))
            return (("Authorization", f"Bearer {token}"),)
    shown: tuple[Header, ...] = (("X-Docker-Token", "true"),)
    if credentials.username and credentials.password:
        shown += (basic(credentials),)
    return shown


async def _ask(
    transport: Transport, url: Url, headers: tuple[Header, ...], limit: int
) -> list[SearchResult]:
    async with await transport.send(url, Call("GET", headers)) as answer:
        if answer.status != 200:
            raise Upstream(f"Unexpected status code {answer.status}")
        body = await transport.read(answer, _ANSWER_BYTES)
    try:
        found = msgspec.json.decode(body, type=_Results).results or []
    except (ValueError, RecursionError) as error:
        raise Upstream(f"error decoding registry search results: {plain(str(error))}") from None
    return [
        SearchResult(
            plain(one.name),
            plain(one.description or ""),
            max(one.star_count or 0, 0),
            bool(one.is_official),
            bool(one.is_automated),
        )
        for one in found[:limit]
    ]
