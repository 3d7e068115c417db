"""Builds: the classic endpoint, and what the build cache holds.

Source: moby daemon/server/router/build/build_routes.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from sampan.api.codec import decode, json_response
from sampan.api.filters import parse_filters
from sampan.api.handler import Backend, Handler
from sampan.api.progress import begun, lines
from sampan.api.registry_auth import credentials_by_registry, credentials_for
from sampan.distribution.credentials import Credentials
from sampan.errors import InvalidArgument, Unsupported
from sampan.http.request import Query, Request
from sampan.http.response import Response, StreamingResponse
from sampan.http.router import Routes
from sampan.spec.build import BuildCachePruneReport, BuildOptions, GCPolicy, Limits
from sampan.spec.docker.config import Ulimit
from sampan.spec.reference import Reference

if TYPE_CHECKING:
    from sampan.build.files.tree import Tree
    from sampan.build.telling.display import Say, Telling
    from sampan.build.worker import Clients

routes: Routes[Handler] = Routes()
T = TypeVar("T")
_WEB: Final = ("http://", "https://")


class _Client:
    """A client that has sent its credentials with the request; all else comes from a session."""

    def __init__(self, known: Mapping[str, Credentials], session: Clients) -> None:
        self._known = known
        self.secret, self.forward = session.secret, session.forward
        self.check_agent, self.folder = session.check_agent, session.folder
        self.layout, self.result = session.layout, session.result
        self.archive, self.policy = session.archive, session.policy

    async def credentials(self, reference: Reference) -> Credentials | None:
        return credentials_for(reference, self._known)


@routes.on("POST", "/build")
async def build(backend: Backend, request: Request) -> StreamingResponse:
    query = request.query
    if query.get("version") == "2":
        raise Unsupported("BuildKit's sessions are not supported: use DOCKER_BUILDKIT=0")
    if query.get("outputs") not in ("", "[]"):
        raise InvalidArgument("custom outputs are only supported by BuildKit")
    options = _options(query)
    session = await _session(backend, query.get("session"))
    context = await _context(backend, request, options)
    request.cancel_when_client_leaves()
    clients = _Client(credentials_by_registry(request), session)
    messages = backend.builder.build(options, context, clients, _telling(query))
    return StreamingResponse(200, lines(await begun(messages)))


@routes.on("POST", "/build/call")
async def call(backend: Backend, request: Request) -> Response:
    """Answer a question about a Dockerfile without building; not Docker's."""
    from sampan.api.buildkit.questions import answer  # protobuf costs memory
    from sampan.api.buildkit.subrequests import question_of

    question = question_of(f"frontend.{request.query.get('call')}")
    options = _options(request.query)
    context = await _context(backend, request, options)
    try:
        recipe = await backend.builder.recipe(context, options.dockerfile)
        told = await answer(backend.builder, question, options, recipe, context)
    finally:
        context.spool.close()
    return json_response(200, {name: text.decode() for name, text in told.items()})


def _telling(query: Query) -> Callable[[Say], Telling] | None:
    """Return how the build is told: as our command line draws it, or as Docker's classic one."""
    if not query.boolean("trace"):
        return None
    from sampan.api.buildkit.tracing import Tracing  # protobuf costs memory

    return partial(Tracing, "build")


async def _session(backend: Backend, name: str) -> Clients:
    """Return the session that a build names, as our command line does for secrets and SSH."""
    if not name:
        from sampan.build.worker import Nobody  # with the first build: see Backend.builder

        return Nobody()
    from sampan.api.buildkit.clients import SessionClient  # gRPC costs memory

    return SessionClient(await backend.buildkit.sessions.find(name))


async def _context(backend: Backend, request: Request, options: BuildOptions) -> Tree:
    remote = options.remote
    if not remote or remote == "client-session":
        return await backend.builder.incoming.receive(request.chunks())
    async for _ in request.chunks():
        pass  # the archive of a client that names another context means nothing
    from sampan.build.contexts.git import is_repository  # with the first build: see Backend.builder

    if not (remote.startswith(_WEB) or is_repository(remote)):
        raise InvalidArgument(f"remote URL {remote} could not be recognized as URL")
    request.cancel_when_client_leaves()
    return await backend.builder.incoming.fetch(remote, options)


def _options(query: Query) -> BuildOptions:
    return BuildOptions(
        dockerfile=query.get("dockerfile") or "Dockerfile",
        remote=query.get("remote"),
        tags=_tags(query),
        target=query.get("target"),
        arguments=_document(query, "buildargs", dict[str, str | None], {}),
        labels=_document(query, "labels", dict[str, str], {}),
        platform=query.get("platform"),
        no_cache=query.boolean("nocache"),
        no_cache_stages=[name.lower() for name in query.all("nocachefilter")],
        contexts=_document(query, "contexts", dict[str, str], {}),
        pull=query.boolean("pull"),
        quiet=query.boolean("q"),
        buildkit=query.boolean("trace"),
        squash=query.boolean("squash"),
        network=_network(query.get("networkmode")),
        extra_hosts=query.all("extrahosts"),
        security_opt=query.all("securityopt"),
        entitlements=_entitlements(query),
        cache_from=_document(query, "cachefrom", list[str], []),
        limits=_limits(query),
    )


def _limits(query: Query) -> Limits:
    return Limits(
        memory=query.integer("memory") or 0,
        memory_swap=query.integer("memswap") or 0,
        cpu_shares=query.integer("cpushares") or 0,
        cpu_period=query.integer("cpuperiod") or 0,
        cpu_quota=query.integer("cpuquota") or 0,
        cpuset_cpus=query.get("cpusetcpus"),
        cpuset_mems=query.get("cpusetmems"),
        cgroup_parent=query.get("cgroupparent"),
        shm_size=query.integer("shmsize") or 0,
        ulimits=_document(query, "ulimits", list[Ulimit], []),
    )


def _document(query: Query, name: str, kind: type[T], empty: T) -> T:
    text = query.get(name)
    if not text:
        return empty
    try:
        value = decode(text.encode("utf-8", "surrogateescape"), kind)
    except InvalidArgument as error:
        raise InvalidArgument(f"error reading {name}: {error}") from error
    return empty if value is None else value


def _tags(query: Query) -> list[str]:
    """Return the names of the image, each once; InvalidArgument for what is no name."""
    found: dict[str, None] = {}
    for text in query.all("t"):
        if not text:
            continue
        reference = Reference.parse(text)
        if reference.digest is not None:
            raise InvalidArgument("build tag cannot contain a digest")
        found[str(reference.with_default_tag())] = None
    return list(found)


def _network(mode: str) -> str:
    return "" if mode == "default" else mode


def _entitlements(query: Query) -> list[str]:
    """Return what the client grants; whoever has every step in the host's network grants that."""
    return [*query.all("allow"), *(["network.host"] if query.get("networkmode") == "host" else [])]


@routes.on("POST", "/build/prune")
async def prune(backend: Backend, request: Request) -> Response:
    from sampan.build.caching.pruning import wish_of  # with the first build: see Backend.builder

    query = request.query
    policy = GCPolicy(
        all=query.boolean("all"),
        reserved=query.integer("reserved-space") or query.integer("keep-storage") or 0,
        max_used=query.integer("max-used-space") or 0,
        min_free=query.integer("min-free-space") or 0,
    )
    gone, freed = await backend.builder.housekeeping.prune(wish_of(parse_filters(request), policy))
    report = BuildCachePruneReport(
        caches_deleted=[one.id for one in gone] or None, space_reclaimed=freed
    )
    return json_response(200, report)
