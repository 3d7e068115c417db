"""`docker login`: show credentials to a registry and see what it says.

Source: moby registry/auth.go, loginV2; registry/service.go, Auth.
"""

from __future__ import annotations

from dataclasses import dataclass

from sampan.distribution.challenges import challenge_for, parse_challenges
from sampan.distribution.credentials import Credentials
from sampan.distribution.endpoints import HUB, HUB_INDEX, Endpoint
from sampan.distribution.refusals import plain
from sampan.distribution.tokens import Tokens, Wish
from sampan.distribution.transport import Call, FailedRequest, Transport, basic
from sampan.errors import InvalidArgument, SampanError, Unauthorized, Upstream
from sampan.http.exchange import Answer
from sampan.http.faults import RefusedProxyFault
from sampan.http.urls import Url
from sampan.spec.reference import DEFAULT_DOMAIN

SUCCEEDED = "Login Succeeded"


@dataclass(frozen=True, slots=True)
class Login:
    """What a registry said to credentials."""

    status: str
    identity_token: str


def host_of(server: str) -> str:
    """Return host[:port] of what a user calls a registry: with or without scheme and path.

    Only no name at all is Docker Hub: credentials for an odd one go nowhere.
    """
    scheme, found, host = server.rpartition("://")
    host = host.partition("/")[0]
    if (server and not host) or (found and scheme not in ("http", "https")):
        raise InvalidArgument(f"invalid registry address: {plain(server)}")
    return DEFAULT_DOMAIN if host in ("", DEFAULT_DOMAIN, HUB_INDEX, HUB) else host


async def log_in(
    transport: Transport, tokens: Tokens, server: str, credentials: Credentials
) -> Login:
    """Check credentials. Raises Unauthorized, Upstream, InvalidArgument for no server's name."""
    host = host_of(server)
    endpoint = Endpoint(HUB if host == DEFAULT_DOMAIN else host, ("https", "http"))
    secure, bare = (endpoint.url(scheme) for scheme in endpoint.schemes)
    try:
        return await _log_in_at(transport, tokens, secure, credentials)
    except FailedRequest as error:
        insecure = await transport.endpoints.is_insecure(secure)
        if not insecure or isinstance(error.fault, RefusedProxyFault):
            raise error.error() from None
    try:
        return await _log_in_at(transport, tokens, bare, credentials)
    except FailedRequest as error:
        raise error.error() from None


async def _log_in_at(
    transport: Transport, tokens: Tokens, ping: Url, credentials: Credentials
) -> Login:
    async with await transport.send(ping, Call("GET")) as answer:
        if answer.status == 200:
            return Login(SUCCEEDED, "")
        if answer.status != 401:
            raise _failed(answer)
        challenges = parse_challenges(answer.headers.all("www-authenticate"))
        is_here = answer.url.origin == ping.origin
    refresh = ""
    if is_here and (bearer := challenge_for(challenges, "bearer")):
        insecure = await transport.endpoints.is_insecure(ping)
        wish = Wish.of(bearer, (), credentials, insecure)
        try:
            token = await tokens.fetch(wish, offline=True)
        except Unauthorized as error:
            raise Unauthorized(f'Get "{ping}": {error}') from None
        shown, refresh = ("Authorization", f"Bearer {token.value}"), token.refresh
    elif is_here and challenge_for(challenges, "basic"):
        if not credentials.username:
            raise Unauthorized(f'Get "{ping}": no basic auth credentials')
        shown = basic(credentials)
    else:
        raise InvalidArgument(
            f"{ping.authority} asks for no kind of authentication that is known here"
        )
    async with await transport.send(ping, Call("GET", (shown,))) as answer:
        if answer.status == 200:
            return Login(SUCCEEDED, refresh or credentials.identity_token)
        raise _failed(answer)


def _failed(answer: Answer) -> SampanError:
    kind = Unauthorized if answer.status == 401 else Upstream
    status = plain(f"{answer.status} {answer.reason}")
    return kind(f"login attempt to {answer.url} failed with status: {status}")
