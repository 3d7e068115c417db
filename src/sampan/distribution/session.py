"""One user's requests to one endpoint: which scheme it speaks, and how it wants to be shown who.

Source: moby registry/auth.go; distribution registry/client/auth/session.go.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sampan.distribution.challenges import Challenge, challenge_for, parse_challenges
from sampan.distribution.credentials import Credentials
from sampan.distribution.endpoints import Endpoint
from sampan.distribution.refusals import Refusal, plain, refusal
from sampan.distribution.tokens import Tokens, Wish
from sampan.distribution.transport import Call, FailedRequest, Header, Transport, basic
from sampan.errors import Unauthorized, Upstream
from sampan.http.exchange import Answer
from sampan.http.faults import CertificateFault, PlainTextFault, RefusedProxyFault
from sampan.http.urls import Url

_DOWN_SECONDS = 60.0


@dataclass(slots=True)
class Memory:
    """What has been learned of all endpoints, by their names."""

    schemes: dict[str, str] = field(default_factory=dict)
    challenges: dict[str, list[Challenge]] = field(default_factory=dict)
    down: dict[str, float] = field(default_factory=dict)

    def forget(self, name: str) -> None:
        """Learn anew how an endpoint is spoken to: another may have come in its place."""
        self.schemes.pop(name, None)
        self.challenges.pop(name, None)

    def is_down(self, name: str) -> bool:
        """Tell whether a mirror did not answer a moment ago."""
        return self.down.get(name, 0.0) > time.monotonic()

    def note_down(self, name: str) -> None:
        """Leave a mirror alone for a while."""
        self.down[name] = time.monotonic() + _DOWN_SECONDS


class Session:
    """Asks one endpoint on behalf of one user, for the given scopes."""

    def __init__(
        self,
        transport: Transport,
        tokens: Tokens,
        memory: Memory,
        endpoint: Endpoint,
        credentials: Credentials,
        scopes: Sequence[str] = (),
    ) -> None:
        self.transport = transport
        self.endpoint = endpoint
        self._tokens = tokens
        self._memory = memory
        self._credentials = credentials
        self._scopes = tuple(scopes)

    async def send(self, where: str | Url, call: Call, more_scopes: Sequence[str] = ()) -> Answer:
        """Send a request to a path below /v2/ or to an address that the endpoint has given.

        The answer may have any status; a 401 means that there is nothing more to show. Raises
        FailedRequest, Upstream, Refusal for
        wrong credentials.
        """
        if isinstance(where, Url):
            return await self._send(where, call, more_scopes)
        if len(self.endpoint.schemes) > 1 and self.endpoint.name not in self._memory.schemes:
            return await self._first(where, call, more_scopes)
        try:
            return await self._known(self.url(where), call, more_scopes)
        except FailedRequest as error:
            if len(self.endpoint.schemes) == 1 or not isinstance(error.fault, PlainTextFault):
                raise
            return await self._first(where, call, more_scopes)

    def url(self, path: str = "") -> Url:
        """Return the address of a path below /v2/."""
        scheme = self._memory.schemes.get(self.endpoint.name, self.endpoint.schemes[0])
        return self.endpoint.url(scheme, path)

    async def _known(self, url: Url, call: Call, more_scopes: Sequence[str]) -> Answer:
        """Send a request in the scheme that worked; forget it if it does no longer."""
        try:
            answer = await self._send(url, call, more_scopes)
        except FailedRequest:
            self._memory.forget(self.endpoint.name)
            raise
        if answer.status == 400 and url.scheme == "http":  # so Go's servers answer on a TLS port
            self._memory.forget(self.endpoint.name)
        return answer

    async def _first(self, path: str, call: Call, more_scopes: Sequence[str]) -> Answer:
        """Send the first request: only an insecure registry may turn out to speak plain HTTP."""
        secure, *others = (self.endpoint.url(scheme, path) for scheme in self.endpoint.schemes)
        try:
            answer = await self._send(secure, call, more_scopes)
        except FailedRequest as error:
            stays = isinstance(error.fault, RefusedProxyFault) or not call.can_repeat
            if stays or not await self.transport.endpoints.is_insecure(secure):
                raise
            # Where it sent us for tokens may be gone with its TLS.
            self._memory.forget(self.endpoint.name)
            answer = await self._send(others[0], call, more_scopes)
            self._memory.schemes[self.endpoint.name] = others[0].scheme
            return answer
        self._memory.schemes[self.endpoint.name] = secure.scheme
        return answer

    async def _send(self, url: Url, call: Call, more_scopes: Sequence[str]) -> Answer:
        is_own = self.endpoint.url(url.scheme).origin == url.origin
        shown = await self._authorization(url, more_scopes) if is_own else None
        answer = await self.transport.send(url, call.with_headers(*([shown] if shown else [])))
        if answer.status != 401 or answer.url.origin != url.origin or not is_own:
            return answer
        self._memory.challenges[self.endpoint.name] = parse_challenges(
            answer.headers.all("www-authenticate")
        )
        if not call.can_repeat:
            return answer
        try:
            again = await self._authorization(url, more_scopes, stale=shown)
        except BaseException:
            answer.close()
            raise
        if again is None or again == shown:
            self._explain(answer, url, call)
            return answer
        answer.close()
        return await self.transport.send(url, call.with_headers(again))

    def _explain(self, answer: Answer, url: Url, call: Call) -> None:
        """Raise what Docker says if a name and a password are wanted and there are none."""
        challenges = self._memory.challenges[self.endpoint.name]
        is_basic = challenge_for(challenges, "basic") and not challenge_for(challenges, "bearer")
        if is_basic and not self._credentials.username:
            answer.close()
            request = f'{call.verb} "{url}": '
            raise Refusal(401, "UNAUTHORIZED", "no basic auth credentials", request)

    async def _authorization(
        self, url: Url, more_scopes: Sequence[str], stale: Header | None = None
    ) -> Header | None:
        """Return the header that answers what the endpoint has asked for; None if none can."""
        if self._credentials.registry_token:
            return "Authorization", f"Bearer {self._credentials.registry_token}"
        challenges = self._memory.challenges.get(self.endpoint.name, [])
        if bearer := challenge_for(challenges, "bearer"):
            try:
                token = await self._token(bearer, url, more_scopes, stale)
            except Exception:
                # Who once sent us to where there is no token is asked anew, not believed for ever.
                self._memory.challenges.pop(self.endpoint.name, None)
                raise
            return "Authorization", f"Bearer {token}"
        if challenge_for(challenges, "basic") and self._credentials.username:
            return basic(self._credentials)
        return None

    async def _token(
        self, bearer: Challenge, url: Url, more_scopes: Sequence[str], stale: Header | None
    ) -> str:
        realm = bearer.parameters.get("realm", "")
        if not self._credentials.is_anonymous and not self.endpoint.trusts(realm):
            raise Upstream(
                f"{self.endpoint.name} sends its users to {plain(realm)[:200]} for a token,"
                " which is not trusted with their passwords"
            )
        scopes = (*self._scopes, *more_scopes)
        is_insecure = await self.transport.endpoints.is_insecure(url)
        wish = Wish.of(bearer, scopes, self._credentials, is_insecure)
        refused = stale[1].removeprefix("Bearer ") if stale else ""
        try:
            return await self._tokens.get(wish, stale=refused)
        except Unauthorized as error:
            request = f'Get "{self.endpoint.url(url.scheme)}": '
            raise Refusal(401, "UNAUTHORIZED", str(error), request) from None


async def expect(answer: Answer, *statuses: int) -> None:
    """Raise a Refusal, and end the answer, unless it has one of these statuses."""
    if answer.status not in statuses:
        try:
            raise await refusal(answer)
        finally:
            answer.close()


def may_pass(error: FailedRequest | Refusal) -> bool:
    """Tell whether the transfer of a blob is worth another attempt."""
    if isinstance(error, Refusal):
        return error.may_pass
    return not isinstance(error.fault, CertificateFault | PlainTextFault | RefusedProxyFault)
