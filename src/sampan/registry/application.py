"""The ASGI application: from a request to an endpoint, and from a failure to an answer."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from sampan.http.peers import Turns
from sampan.registry import names
from sampan.registry.auth.access import Access, NoAccess, Scope
from sampan.registry.content.fullness import is_full
from sampan.registry.database.metadata import DatabaseAway
from sampan.registry.endpoints import blobs, lists, manifests, uploads
from sampan.registry.endpoints.call import Call, Emit
from sampan.registry.errors import RegistryError
from sampan.registry.foreign import is_foreign
from sampan.registry.registry import Registry
from sampan.registry.service import GROUPS, HANDLER, USER, Service

if TYPE_CHECKING:  # only a cache needs it
    from sampan.registry.proxy.proxy import Proxy

log = logging.getLogger(__name__)
Endpoint = Callable[[Call], Awaitable[Response]]
# What was pushed has no type of its own here: no browser may find one for it, script or page.
NO_GUESSES = ("X-Content-Type-Options", "nosniff")
API_VERSION = ("Docker-Distribution-API-Version", "registry/2.0")
PULL, PUSH, DELETE, ANY = ("pull",), ("pull", "push"), ("delete",), ("*",)
LOGIN_THREADS = 2
OF_STORAGE = "storagedriver_"  # what the health check of a storage is called, as by docker-registry
THREADS = 32  # that wait for the storage; the interpreter itself runs in one at a time


@dataclass(frozen=True)
class Verb:
    """What one method does at one place, and what one needs for it."""

    endpoint: Endpoint
    actions: tuple[str, ...]
    deletes: bool = False  # only where deletes are enabled
    public: bool = False  # nobody is asked who they are


@dataclass(frozen=True)
class Route:
    """A place, with what can be done there. `name` is what figures call it."""

    name: str
    pattern: re.Pattern[str]
    verbs: Mapping[str, Verb]
    writes: bool = False  # its changes end when the registry is read-only


def _route(name: str, pattern: str, writes: bool = False, **verbs: Verb) -> Route:
    if "GET" in verbs:
        verbs["HEAD"] = verbs["GET"]
    return Route(name, re.compile(pattern), verbs, writes)


# Names may contain any of these words as a part; the pattern is greedy, so the longest name wins.
_NAME = r"/v2/(?P<name>.+)"
ROUTES = (
    _route("base", r"/v2/?", GET=Verb(lists.base, ())),
    _route("catalog", r"/v2/_catalog/?", GET=Verb(lists.catalog, ANY)),
    _route("extensions", r"/v2/_oci/ext/discover", GET=Verb(lists.extensions, ())),
    _route("extensions", rf"{_NAME}/_oci/ext/discover", GET=Verb(lists.extensions, PULL)),
    _route("ping", r"/v1/_ping", GET=Verb(lists.ping, (), public=True)),
    _route("search", r"/v1/search", GET=Verb(lists.search, ("search",))),
    _route("tags", rf"{_NAME}/tags/list/?", GET=Verb(lists.tags, PULL)),
    _route(
        "referrers", rf"{_NAME}/referrers/(?P<digest>[^/]+)", GET=Verb(manifests.referrers, PULL)
    ),
    _route(
        "manifest",
        rf"{_NAME}/manifests/(?P<reference>[^/]+)",
        writes=True,
        GET=Verb(manifests.get, PULL),
        PUT=Verb(manifests.put, PUSH),
        DELETE=Verb(manifests.delete, DELETE, deletes=True),
    ),
    _route("blob_upload", rf"{_NAME}/blobs/uploads/?", writes=True, POST=Verb(uploads.start, PUSH)),
    _route(
        "blob_upload_chunk",
        rf"{_NAME}/blobs/uploads/(?P<upload>[^/]+)",
        writes=True,
        GET=Verb(uploads.status, PUSH),
        PATCH=Verb(uploads.append, PUSH),
        PUT=Verb(uploads.finish, PUSH),
        DELETE=Verb(uploads.cancel, PUSH),
    ),
    _route(
        "blob",
        rf"{_NAME}/blobs/(?P<digest>[^/]+)",
        writes=True,
        GET=Verb(blobs.get, PULL),
        DELETE=Verb(blobs.delete, DELETE, deletes=True),
    ),
)
READING = ("GET", "HEAD")


class Application:
    """Serves one registry."""

    def __init__(
        self,
        registry: Registry,
        service: Service | None = None,
        access: Access | None = None,
        emit: Emit | None = None,
        sick: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """`sick` returns the health checks that fail, by name, with their reasons.

        `proxy` may be set later, before the first request: it needs the application's threads.
        """
        self.registry = registry
        self.service = service or Service()
        self.access = access or NoAccess()
        self.emit = emit
        self.sick = sick
        given = (name.lower() for name in self.service.headers)
        self._says_how_to_read = NO_GUESSES[0].lower() in given
        self.proxy: Proxy | None = None
        self.threads = ThreadPoolExecutor(THREADS, "registry")
        # Of their own: whoever tries passwords keeps only others waiting who log in.
        self._logins = ThreadPoolExecutor(LOGIN_THREADS, "login")
        self._turns = Turns(LOGIN_THREADS - 1)  # and of one address, not even all of those

    def close(self) -> None:
        """Wait for the threads to end."""
        self.threads.shutdown()
        self._logins.shutdown()

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive, send)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return  # nobody is there to be answered
        response.headers.append(*API_VERSION)
        if not self._says_how_to_read:
            response.headers.append(*NO_GUESSES)
        for name, values in self.service.headers.items():
            if name not in response.headers:
                for value in values:
                    response.headers.append(name, value)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        """Return an answer to every request, whatever happens."""
        try:
            return await self._serve(request)
        except RegistryError as error:
            return failure(error)
        except DatabaseAway as error:
            log.error("%s %s: %s", request.method, request.url.path, error)
            return failure(RegistryError("UNAVAILABLE", message=f"database: {error}"))
        except OSError as error:
            return failure(_of_storage(request, error))
        except sqlite3.OperationalError as error:
            return failure(_of_storage(request, error))
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            return failure(RegistryError("UNKNOWN"))

    async def _serve(self, request: Request) -> Response:
        failing = self.sick()
        if self.proxy:  # what a storage cannot give, an upstream can
            failing = {n: why for n, why in failing.items() if not n.startswith(OF_STORAGE)}
        if failing:
            raise RegistryError("UNAVAILABLE", dict(failing), message="service unavailable")
        prefix = self.service.prefix
        path = request.scope["path"]
        if path == prefix.rstrip("/") + "/":
            return Response(headers={"Cache-Control": "no-cache"})
        if not path.startswith(prefix):
            return not_found()
        for route in ROUTES:
            match = route.pattern.fullmatch("/" + path[len(prefix) :])
            if match:
                request.scope[HANDLER] = route.name
                request.scope[GROUPS] = match.groupdict()
                if request.method == "OPTIONS":
                    # Browsers ask so before a page of another site may send anything, and never
                    # log in (Fetch standard, CORS-preflight): docker-registry's 401 keeps such
                    # pages out. What they may do is in `http.headers`.
                    return Response(headers=self._allow(route))
                return await self._endpoint(request, route, match.groupdict())
        return not_found()

    def _allow(self, route: Route) -> dict[str, str]:
        allowed = [m for m in route.verbs if not self.service.read_only or m in READING]
        return {"Allow": ", ".join(sorted(allowed))}

    async def _endpoint(
        self, request: Request, route: Route, groups: Mapping[str, str]
    ) -> Response:
        verb = route.verbs.get(request.method)
        closed = self.service.read_only and route.writes and request.method not in READING
        if verb is None or closed:
            raise RegistryError("UNSUPPORTED", headers=self._allow(route))
        if is_foreign(request.method, request.headers, self.service.headers):
            raise RegistryError("DENIED", message="a page of another site asks for this")
        name = names.repository(groups["name"]) if "name" in groups else ""
        place = None
        if self.proxy and name and (place := self.proxy.place(name, request.query_params)):
            name = place.repository
        call = Call(
            request=request,
            registry=self.registry,
            service=self.service,
            threads=self.threads,
            grant=NoAccess().authorize(request, (), None),
            groups=groups,
            emit=self.emit,
            repository=name,
        )
        if not verb.public:
            await self._authorize(call, scopes(request, name, verb))
            if verb.deletes and not self.service.deletes:
                raise RegistryError("UNSUPPORTED")
            if self.proxy and place:
                if "push" in verb.actions:
                    raise RegistryError("UNSUPPORTED", message=place.refusal)
                call.cached = self.proxy.cached(place, _may_read(call))
        response = await verb.endpoint(call)
        if place and place.namespace:
            response.headers["OCI-Namespace"] = place.namespace
        return response

    async def _authorize(self, call: Call, wanted: Sequence[Scope]) -> None:
        """Find out who asks and what they may; the first of the scopes they must have."""
        try:
            await self._ask_access(call, wanted)
        except RegistryError as error:
            if wanted and error.items[0].code == "UNAUTHORIZED":
                raise error.about(_records(wanted)) from None
            raise
        call.request.scope[USER] = call.grant.user

    async def _ask_access(self, call: Call, wanted: Sequence[Scope]) -> None:
        needed = wanted[0] if wanted else None
        authorize = self.access.authorize
        if self.access.blocks(call.request):
            loop = asyncio.get_running_loop()
            client = call.request.client
            async with self._turns.turn(client.host if client else ""):
                call.grant = await loop.run_in_executor(
                    self._logins, authorize, call.request, wanted, needed
                )
        else:
            call.grant = authorize(call.request, wanted, needed)


def _may_read(call: Call) -> Callable[[str], bool]:
    return lambda name: call.grant.allows(Scope("repository", name, PULL))


def scopes(request: Request, name: str, verb: Verb) -> Sequence[Scope]:
    """Return what a request needs, and then what would help it."""
    if not name:
        return [Scope("registry", "catalog", verb.actions)] if verb.actions else []
    wanted = [Scope("repository", name, verb.actions)]
    source = request.query_params.get("from", "") if verb.endpoint is uploads.start else ""
    if names.is_repository(source):
        wanted.append(Scope("repository", source, PULL))
    return wanted


def _records(wanted: Sequence[Scope]) -> list[dict[str, str]]:
    """Return what a request needs as docker-registry tells it: the names are those of Go."""
    return [
        {"Type": scope.type, "Class": scope.kind, "Name": scope.name, "Action": action}
        for scope in wanted
        for action in scope.actions
    ]


def failure(error: RegistryError) -> Response:
    """Return the answer that an error is."""
    headers = {"Content-Type": "application/json; charset=utf-8", **error.headers}
    return Response(error.body, status_code=error.status, headers=headers)


def not_found() -> Response:
    """Return the answer where there is nothing."""
    return Response("404 page not found\n", status_code=404, media_type="text/plain")


def _of_storage(request: Request, error: OSError | sqlite3.Error) -> RegistryError:
    log.error("%s %s: %s", request.method, request.url.path, error)
    if is_full(error):
        return RegistryError("UNAVAILABLE", message="the storage is full", status=507)
    if isinstance(error, sqlite3.Error):
        return RegistryError("UNAVAILABLE", message=f"database: {error}")
    return RegistryError("UNAVAILABLE", message=f"storage: {error.strerror or error}")
