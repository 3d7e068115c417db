"""Requests as registries need them: redirects, a few more attempts, errors in Docker's words."""

from __future__ import annotations

import asyncio
import base64
import random
import ssl
from dataclasses import dataclass, replace

from sampan.distribution.certificates import Certificates
from sampan.distribution.config import RegistryConfig
from sampan.distribution.credentials import Credentials
from sampan.distribution.endpoints import Endpoints, names_of
from sampan.distribution.headers import retry_after
from sampan.errors import InvalidArgument, Upstream
from sampan.http.client import Body, Client
from sampan.http.exchange import Answer, Source
from sampan.http.faults import BrokenFault, CertificateFault, DialFault, Fault, PlainTextFault
from sampan.http.pump import in_thread
from sampan.http.urls import Url

REDIRECTS = 10
LONGEST_WAIT = 60.0  # seconds between two attempts
_MOVED = frozenset({301, 302, 303, 307, 308})
_AGAIN = frozenset({429, 500, 502, 503, 504})
Header = tuple[str, str]


def basic(credentials: Credentials) -> Header:
    """Return the header that shows a name and a password (RFC 7617)."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Authorization", f"Basic {base64.b64encode(pair).decode()}"


@dataclass(frozen=True, slots=True)
class Call:
    """A request but for its address."""

    method: str
    headers: tuple[Header, ...] = ()
    body: Body = None
    answer_seconds: float | None = None  # None: as long as the client's limits say
    attempts: int | None = None  # None: as many as the settings say

    is_secret: bool = False  # the body is for nobody but whom it is sent to

    @property
    def verb(self) -> str:
        """The method as Go's errors begin with it: Get, Head."""
        return self.method.capitalize()

    @property
    def can_repeat(self) -> bool:
        """The body can be sent again."""
        return not isinstance(self.body, Source)

    def with_headers(self, *headers: Header) -> Call:
        """Return the call with more headers."""
        return replace(self, headers=(*self.headers, *headers))


class FailedRequest(Exception):
    """A request that found no answer; inside this package only. `fault` says why."""

    def __init__(self, verb: str, url: Url, fault: Fault) -> None:
        super().__init__(f'{verb} "{url}": {fault}')
        self.url = url
        self.fault = fault

    def error(self) -> Upstream:
        """Return the error that tells a user; Docker asks for /v2/ first, so that is named."""
        told = str(self)
        if isinstance(self.fault, DialFault | CertificateFault | PlainTextFault):
            told = f'Get "{self.url.scheme}://{self.url.authority}/v2/": {self.fault}'
        error = Upstream(told)
        error.may_pass = isinstance(self.fault, DialFault) or self.fault.may_pass
        return error


class Transport:
    """What all registries share: connections, TLS settings, patience."""

    def __init__(self, config: RegistryConfig) -> None:
        self.config = config
        self.endpoints = Endpoints(config.insecure, config.hub_mirrors, config.mirrors)
        self._certificates = Certificates(config.certificates)
        self.client = Client(
            trust=self._trust,
            proxies=config.proxies,
            limits=config.limits,
            user_agent=config.user_agent,
            permit=config.permit,
        )

    async def _trust(self, url: Url) -> ssl.SSLContext:
        """Return how to speak TLS with a host; reading all authorities takes its time."""
        insecure = self.endpoints.is_known_insecure(url)
        return await in_thread(
            lambda _: self._certificates.context(names_of(url), is_insecure=insecure)
        )

    async def send(self, url: Url, call: Call) -> Answer:
        """Send a request, follow redirects, try again what may pass.

        An `Authorization` goes to the host of `url` and nowhere else. The answer may have any
        status but a redirect's. Raises Upstream for bad redirects, FailedRequest if there is no
        answer.
        """
        attempts = (call.attempts or self.config.max_attempts) if call.can_repeat else 1
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            try:
                answer = await self._follow(url, call)
            except FailedRequest as error:
                if last or not isinstance(error.fault, BrokenFault):
                    raise
                await self.pause(attempt)
                continue
            if answer.status not in _AGAIN or last:
                return answer
            asked = retry_after(answer.headers.get("retry-after"))
            if asked is not None and asked > self.config.longest_wait_seconds:
                return answer
            answer.close()
            await self.pause(attempt, asked)
        raise AssertionError("there is at least one attempt")

    async def pause(self, attempt: int, asked: float | None = None) -> None:
        """Wait before the next attempt: longer each time, never all clients at once."""
        longest = min(self.config.backoff_seconds * 2 ** (attempt - 1), LONGEST_WAIT)
        chance = longest * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets
        await asyncio.sleep(max(chance, asked or 0.0))

    async def read(self, answer: Answer, limit: int) -> bytes:
        """Return the whole body of an answer. Raises FailedRequest."""
        try:
            return await answer.read(limit)
        except Fault as fault:
            raise FailedRequest("Get", answer.url, fault) from None

    async def _follow(self, url: Url, call: Call) -> Answer:
        first, seen = url, {str(url)}
        while True:
            given = call if url.origin == first.origin else _without_secrets(call)
            answer = await self._once(url, given)
            location = answer.headers.get("location")
            may_follow = call.method in ("GET", "HEAD") or (
                answer.status in (307, 308) and call.can_repeat
            )
            if answer.status not in _MOVED or not may_follow or not location:
                return answer
            answer.close()
            url = await self._next(url, location, call)
            if call.is_secret and url.origin != first.origin:
                raise Upstream(
                    f'{call.verb} "{first}": refused to take a login on to {url.authority}'
                )
            if str(url) in seen or len(seen) > REDIRECTS:
                raise Upstream(f'{call.verb} "{first}": stopped after {REDIRECTS} redirects')
            seen.add(str(url))

    async def _next(self, url: Url, location: str, call: Call) -> Url:
        try:
            target = url.join(location)
        except InvalidArgument as error:
            raise Upstream(f'{call.verb} "{url}": bad redirect: {error}') from None
        downgrade = url.scheme == "https" and target.scheme == "http"
        if downgrade and not await self.endpoints.is_insecure(target):
            raise Upstream(
                f'{call.verb} "{url}": refused a redirect to {target.authority} without TLS'
            )
        return target

    async def _once(self, url: Url, call: Call) -> Answer:
        await self.endpoints.is_insecure(url)  # `trust` needs to know
        try:
            return await self.client.send(
                call.method, url, call.headers, call.body, answer_seconds=call.answer_seconds
            )
        except Fault as fault:
            raise FailedRequest(call.verb, url, fault) from None


def _without_secrets(call: Call) -> Call:
    kept = tuple(one for one in call.headers if one[0].lower() != "authorization")
    return replace(call, headers=kept)
