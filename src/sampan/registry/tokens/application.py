"""The HTTP face of a token service: GET and POST for tokens, the keys, and the end of a login.

Source: distribution docs/spec/auth (token.md, oauth.md, scope.md); RFC 6749, RFC 7009.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sampan.registry.auth.basic import credentials
from sampan.registry.bodies import read_body
from sampan.registry.service import HANDLER, USER
from sampan.registry.tokens.issuer import Asked, Issued, Issuer, Refused

log = logging.getLogger(__name__)
FORM_LIMIT = 64 << 10
FIELDS = 200
THREADS = 2  # for bcrypt: who guesses passwords leaves the rest of the machine alone
JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}
FORM = "application/x-www-form-urlencoded"
Form = dict[str, list[str]]


class TokenApplication:
    """Serves tokens below a path, and everything else by another application, if there is one."""

    def __init__(self, issuer: Issuer, path: str, others: ASGIApp | None = None) -> None:
        self._issuer = issuer
        self._path = path
        self._others = others
        self._threads = ThreadPoolExecutor(THREADS, "tokens")

    def close(self) -> None:
        """Wait for the threads to end."""
        self._threads.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = scope.get("path", "")
        ours = place == self._path or place.startswith(self._path + "/")
        if scope["type"] != "http":
            return
        if not ours and self._others:
            await self._others(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await self._answer(request, place[len(self._path) :] if ours else None)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request, place: str | None) -> Response:
        request.scope[HANDLER] = "token"
        try:
            return await self._serve(request, place)
        except Refused as refused:
            return _refusal(request, refused)
        except (sqlite3.Error, OSError) as error:
            log.error("%s %s: %s", request.method, request.url.path, error)
            return _refusal(
                request,
                Refused(503, "temporarily_unavailable", "UNAVAILABLE", f"accounts: {error}"),
            )
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            return _refusal(request, Refused(500, "server_error", "UNKNOWN", "unknown error"))

    async def _serve(self, request: Request, place: str | None) -> Response:
        call = (request.method, place)
        if call in (("GET", ""), ("HEAD", "")):
            return _issued(request, await self._get(request))
        if call == ("POST", ""):
            return _issued(request, await self._post(request, await _form(request)))
        if call == ("POST", "/revoke"):
            token = _first(await _form(request), "token")
            await self._run(self._issuer.sessions.revoke, token)
            return Response(status_code=200)
        if call in (("GET", "/keys"), ("HEAD", "/keys")):
            headers = {**JSON, "Cache-Control": "max-age=60"}
            return Response(await self._run(self._issuer.keys.key_set), headers=headers)
        if place in ("", "/keys", "/revoke"):
            raise Refused(405, "invalid_request", "UNSUPPORTED", "the operation is unsupported")
        return Response("404 page not found\n", status_code=404, media_type="text/plain")

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)

    async def _get(self, request: Request) -> Issued:
        """What `docker` asks: with name and password in the header, or without."""
        query = request.query_params
        header = request.headers.get("authorization", "")
        given = credentials(header)
        asked = Asked(
            query.get("service", ""),
            _scopes(query.getlist("scope")),
            query.get("client_id", ""),
            query.get("offline_token", "") == "true",
            _address(request),
        )
        if given is not None:
            request.scope[USER] = given[0]
            found: Issued = await self._run(self._issuer.by_password, asked, *given)
            return found
        if header:
            raise Refused(401, "invalid_client", "UNAUTHORIZED", "authentication required")
        nobody: Issued = await self._run(self._issuer.by_nobody, asked)
        return nobody

    async def _post(self, request: Request, form: Form) -> Issued:
        """What OAuth 2 asks: a password or a refresh token for a token."""
        for name in ("grant_type", "service", "client_id"):
            if not _first(form, name):
                raise Refused(400, "invalid_request", "UNSUPPORTED", f"{name} is missing")
        asked = Asked(
            _first(form, "service"),
            _scopes(form.get("scope", [])),
            _first(form, "client_id"),
            _first(form, "access_type") == "offline",
            _address(request),
        )
        kind = _first(form, "grant_type")
        found: Issued
        if kind == "password":
            name, password = _first(form, "username"), _first(form, "password")
            request.scope[USER] = name
            found = await self._run(self._issuer.by_password, asked, name, password)
        elif kind == "refresh_token":
            token = _first(form, "refresh_token")
            found = await self._run(self._issuer.by_refresh_token, asked, token)
        else:
            raise Refused(
                *(400, "unsupported_grant_type", "UNSUPPORTED"),
                "grant_type is password or refresh_token",
            )
        return found


async def _form(request: Request) -> Form:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise Refused(400, "invalid_request", "UNSUPPORTED", f"the body must be {FORM}")
    body = await read_body(request, FORM_LIMIT)
    if body is None:
        raise Refused(
            413, "invalid_request", "SIZE_INVALID", f"a form has at most {FORM_LIMIT} bytes"
        )
    try:
        return parse_qs(body.decode(), max_num_fields=FIELDS)
    except ValueError:
        raise Refused(400, "invalid_request", "UNSUPPORTED", "the body is no form") from None


def _first(form: Form, name: str) -> str:
    return form.get(name, [""])[0]


def _scopes(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for text in given for part in text.split()))


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _issued(request: Request, issued: Issued) -> Response:
    request.scope[USER] = issued.user
    return Response(msgspec.json.encode(issued.body), headers=JSON)


def _refusal(request: Request, refused: Refused) -> Response:
    """Say it in the words of OAuth 2 and in those of registries: clients read either."""
    message = str(refused)
    body = {
        "error": refused.error,
        "error_description": message,
        "errors": [{"code": refused.code, "message": message}],
        "details": message,
    }
    headers = dict(JSON)
    if refused.status == 401 and request.method != "POST":
        headers["WWW-Authenticate"] = 'Basic realm="token service", charset="UTF-8"'
    if refused.wait:
        headers["Retry-After"] = str(int(refused.wait) + 1)
    return Response(msgspec.json.encode(body), status_code=refused.status, headers=headers)
