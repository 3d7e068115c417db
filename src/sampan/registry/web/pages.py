"""The web pages of a registry: what is there, what it is made of, and an end for it.

Plain HTML that works without scripts (docs/decisions/042). Changes are made by the API itself: a
form becomes the DELETE that a client would send.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from sampan.http.peers import Turns
from sampan.registry import names
from sampan.registry.application import Application
from sampan.registry.auth.access import NoAccess, Scope
from sampan.registry.bodies import read_body
from sampan.registry.errors import KINDS, RegistryError
from sampan.registry.forwarded import forwarded
from sampan.registry.service import HANDLER, USER
from sampan.registry.web import images, listing, templates
from sampan.registry.web.sign_in import Door, SignIn

log = logging.getLogger(__name__)
THREADS = 4
FORM = "application/x-www-form-urlencoded"
FORM_LIMIT = 8 << 10  # bytes
TERM = 255  # characters of a search
BASIC = 'Basic realm="Registry", charset="UTF-8"'
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SITE = b"sec-fetch-site"
CATALOG = Scope("registry", "catalog", ("*",))
Page = Callable[[Request, Mapping[str, str]], Awaitable[Response]]


class Pages:
    """Serves pages below `ui/`, and everything else by another application."""

    def __init__(self, application: Application, others: ASGIApp, sign_in: SignIn | None) -> None:
        """`others` serves the API, and is asked for what the pages change."""
        self._registry = application.registry
        self._service = application.service
        self._sick = application.sick
        self._others = others
        self._door = Door(application.access, sign_in)
        self._has_users = not isinstance(application.access, NoAccess)
        self._threads = ThreadPoolExecutor(THREADS, "web")
        self._turns = Turns(THREADS // 2)  # of one address: it may guess passwords
        self._key = secrets.token_bytes(32)
        self._base = f"{self._service.prefix}ui/"
        self._templates = templates.environment()
        self._routes: tuple[tuple[str, re.Pattern[str], Page], ...] = (
            ("GET", re.compile(r""), self._repositories),
            ("GET", re.compile(r"repository/(?P<name>.+)"), self._repository),
            ("GET", re.compile(r"image/(?P<name>.+)"), self._image),
            ("GET", re.compile(r"open"), self._open),
            ("GET", re.compile(r"login"), self._login),
            ("GET", re.compile(r"static/(?P<file>[a-z.]+)"), self._static),
            ("POST", re.compile(r"delete"), self._delete),
        )

    def close(self) -> None:
        """Wait for the threads to end."""
        self._threads.shutdown()

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path + "/").startswith(self._base):
            await self._others(scope, receive, send)
            return
        request = Request(scope, receive, send)
        scope[HANDLER] = "web"
        try:
            response = await self._answer(request, path)
        except ClientDisconnect:
            return
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def _answer(self, request: Request, path: str) -> Response:
        try:
            if failing := self._sick():
                why = ", ".join(f"{name}: {reason}" for name, reason in failing.items())
                raise RegistryError("UNAVAILABLE", message=f"service unavailable: {why}")
            if path + "/" == self._base:
                return self._go("")
            return await self._page(request, path[len(self._base) :])
        except RegistryError as error:
            return self._failure(request, error)
        except (OSError, sqlite3.Error) as error:
            log.error("%s %s: %s", request.method, path, error)
            return self._failure(request, RegistryError("UNAVAILABLE", message=f"storage: {error}"))
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("%s %s failed", request.method, path)
            return self._failure(request, RegistryError("UNKNOWN"))

    async def _page(self, request: Request, path: str) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        for allowed, pattern, page in self._routes:
            if match := pattern.fullmatch(path):
                if method != allowed:
                    raise RegistryError("UNSUPPORTED", headers={"Allow": allowed})
                return await page(request, match.groupdict())
        raise RegistryError("NAME_UNKNOWN", message="there is no such page")

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)

    async def _admit(self, request: Request, scope: Scope) -> None:
        """Let a user in who may do this, and remember who it is."""
        async with self._turns.turn(request.client.host if request.client else ""):
            grant = await self._run(self._door.grant, request, scope)
        request.scope[USER] = grant.user

    # --- pages -------------------------------------------------------------------------------

    async def _repositories(self, request: Request, _: Mapping[str, str]) -> Response:
        term, last = _queries(request)
        await self._admit(request, CATALOG)
        page = await self._run(listing.repositories, self._registry.metadata, term, last)
        more = urlencode({"q": term, "last": page.last}) if page.last else ""
        return self._html(request, "repositories.html", page=page, term=term, more=more)

    async def _repository(self, request: Request, groups: Mapping[str, str]) -> Response:
        name = names.repository(groups["name"])
        term, last = _queries(request)
        await self._admit(request, _pull(name))
        page = await self._run(listing.tags, self._registry.metadata, name, term, last)
        more = urlencode({"q": term, "last": page.last}) if page.last else ""
        return self._html(request, "repository.html", name=name, page=page, term=term, more=more)

    async def _image(self, request: Request, groups: Mapping[str, str]) -> Response:
        name = names.repository(groups["name"])
        reference = _reference(request.query_params.get("reference", ""))
        await self._admit(request, _pull(name))
        image = await self._run(images.describe, self._registry, name, reference)
        mark = "@" if ":" in reference else ":"
        pull = f"docker pull {self._host(request)}/{name}{mark}{reference}"
        return self._html(
            request,
            "image.html",
            name=name,
            reference=reference,
            image=image,
            pull=pull,
            targets=await self._targets(request, name, reference, image.digest),
        )

    async def _targets(
        self, request: Request, name: str, reference: str, digest: str
    ) -> list[tuple[str, str]]:
        """Return what may be deleted, each with the proof that a form came from us."""
        if not self._service.deletes or self._service.read_only:
            return []
        try:
            await self._run(self._door.grant, request, _deletion(name))
        except RegistryError:
            return []
        return [(r, self._proof(request, name, r)) for r in dict.fromkeys((reference, digest))]

    async def _open(self, request: Request, _: Mapping[str, str]) -> Response:
        name = names.repository(request.query_params.get("name", "").strip())
        return self._go(f"repository/{quote(name)}")

    async def _login(self, request: Request, _: Mapping[str, str]) -> Response:
        if self._has_users and "authorization" not in request.headers:
            raise RegistryError("UNAUTHORIZED")
        return self._go("")

    async def _static(self, request: Request, groups: Mapping[str, str]) -> Response:
        kind = templates.STATIC.get(groups["file"])
        if kind is None:
            raise RegistryError("NAME_UNKNOWN", message="there is no such file")
        content = await self._run(templates.static, groups["file"])
        return Response(content, headers={"Content-Type": kind, "Cache-Control": "max-age=3600"})

    # --- changes -----------------------------------------------------------------------------

    async def _delete(self, request: Request, _: Mapping[str, str]) -> Response:
        form = await _form(request)
        name = names.repository(form.get("repository", ""))
        reference = _reference(form.get("reference", ""))
        scope = _deletion(name)
        await self._admit(request, scope)
        # Who another site sends here has its name and password with them, but not the proof.
        foreign = request.headers.get("sec-fetch-site", "same-origin") != "same-origin"
        proof = self._proof(request, name, reference)
        if foreign or not hmac.compare_digest(proof.encode(), form.get("proof", "").encode()):
            raise RegistryError(
                "DENIED", message="this form is not from here, or is too old: go back and reload"
            )
        admitted = await self._run(self._door.admitted, request, scope)
        await self._ask(admitted.scope, f"v2/{name}/manifests/{reference}")
        return self._go(f"repository/{quote(name)}")

    def _proof(self, request: Request, name: str, reference: str) -> str:
        """Return what only a page of ours can know, for this user and this deletion."""
        text = "\0".join((request.scope.get(USER, ""), name, reference))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    async def _ask(self, scope: Connection, path: str) -> None:
        """Send DELETE to the API; raise what it answers if that is no success."""
        place = self._service.prefix + path
        status = 500

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]

        inner = {"method": "DELETE", "path": place, "raw_path": place.encode(), "query_string": b""}
        # Whether the form is from here was found out already, by more than its origin.
        headers = [pair for pair in scope["headers"] if pair[0] not in (b"origin", SITE)]
        await self._others({**scope, **inner, "headers": headers, "extensions": {}}, receive, send)
        if status != 202:
            code = next((c for c, kind in KINDS.items() if kind.status == status), "UNKNOWN")
            message = "there is no such image" if status == 404 else ""
            raise RegistryError(code, message=message, status=status)

    # --- answers -----------------------------------------------------------------------------

    def _html(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        text = self._templates.get_template(template).render(
            base=self._base,
            user=request.scope.get(USER, ""),
            has_users=self._has_users,
            **values,
        )
        return Response(text, status, media_type="text/html")

    def _go(self, place: str) -> Response:
        return Response(status_code=303, headers={"Location": self._base + place})

    def _failure(self, request: Request, error: RegistryError) -> Response:
        item = error.items[0]
        message = item.message or KINDS[item.code].message
        response = self._html(request, "error.html", error.status, message=message)
        for name, value in error.headers.items():
            if name != "WWW-Authenticate":
                response.headers[name] = value
        if error.status == 401:
            asked = error.headers.get("WWW-Authenticate", "")
            response.headers["WWW-Authenticate"] = asked if asked.startswith("Basic") else BASIC
        return response

    def _host(self, request: Request) -> str:
        """Return how the registry is called in names of images."""
        if self._service.host:
            return self._service.host.partition("://")[2].partition("/")[0]
        return forwarded(request.headers)[1] or request.headers.get("host", "localhost")


def _pull(name: str) -> Scope:
    return Scope("repository", name, ("pull",))


def _deletion(name: str) -> Scope:
    return Scope("repository", name, ("delete",))


def _reference(text: str) -> str:
    return names.digest(text) if ":" in text else names.tag(text)


def _queries(request: Request) -> tuple[str, str]:
    found = request.query_params
    return found.get("q", "").strip()[:TERM], found.get("last", "")[:TERM]


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise RegistryError("UNSUPPORTED", message="a form is expected", status=415)
    body = await read_body(request, FORM_LIMIT)
    if body is None:
        raise RegistryError("SIZE_INVALID", message="the form is too large", status=413)
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=10)
    except ValueError:
        raise RegistryError("UNSUPPORTED", message="this is no form", status=400) from None
    return {key: values[0] for key, values in fields.items()}
