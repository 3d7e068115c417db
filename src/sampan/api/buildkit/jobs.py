"""Builds that clients drive through gRPC: one job a build, found by the name that its client gave.

A client asks for the result (Solve), which opens the job, for the progress (Status) at the same
time, and drives the build by calls to the gateway meanwhile: those wait until there is a job.

Source: buildkit control/control.go (Solve, Status), control/gateway/gateway.go,
frontend/dockerui/config.go (attributes).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from sampan.api.buildkit.caching import Caching, imports_of
from sampan.api.buildkit.clients import SessionClient
from sampan.api.buildkit.llb import address_of
from sampan.api.buildkit.material import Material
from sampan.api.buildkit.options import Wish, wish_of
from sampan.api.buildkit.progress import Progress, Vertices
from sampan.api.buildkit.questions import answer
from sampan.api.buildkit.sessions import Session, Sessions
from sampan.api.buildkit.views import View
from sampan.api.buildkit.warnings import warnings
from sampan.build.builder import Builder
from sampan.build.built import Built, Recipe
from sampan.build.contexts.main_context import MainContext
from sampan.build.exporting.outlet import Outlet
from sampan.build.files.tree import Tree
from sampan.build.policing import Policy
from sampan.build.remotecache.importing import Imports
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.buildkit.control_pb2 import CacheOptionsEntry, StatusResponse
from sampan.spec.buildkit.solver_pb2 import Definition

_PATIENCE: Final = 5.0  # seconds until somebody asks for the result of a build
_MEMORY: Final = 10.0  # seconds in which the progress can be asked for after the end


@dataclass(frozen=True, slots=True)
class Returned:
    """What the client that drives a build has decided on: names of results."""

    names: Sequence[str] = ()
    is_index: bool = False  # of platforms, whatever their number


@dataclass(slots=True)
class Job:
    """One build."""

    ref: str
    progress: Progress
    session: asyncio.Future[Session]
    returned: asyncio.Future[Returned]
    policy: Policy | None = None  # who wants to be asked about sources
    attributes: dict[str, str] = field(default_factory=dict)  # of all that it has built
    results: dict[str, Built] = field(default_factory=dict)
    started: int = field(default_factory=time.time_ns)
    provenance: dict[str, bytes] = field(default_factory=dict)  # by platform
    views: dict[str, View] = field(default_factory=dict)
    entitlements: Sequence[str] = ()  # that the client grants
    imports: Sequence[CacheOptionsEntry] = ()  # caches to use, unless the front end names others
    _workers: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def ended(self) -> bool:
        """Nobody waits for its result any more."""
        return self.progress.ended

    async def client(self) -> Session:
        """Return the session of the client, when it is there."""
        return await asyncio.shield(self.session)  # it is not this caller's alone to cancel

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work for the job: only as long as somebody waits for its result."""
        task = asyncio.current_task()
        assert task is not None
        self._workers.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self.ended or task.uncancel():
                raise  # not by `end`, or not only
            raise NotFound(f"no such job {self.ref}") from None
        finally:
            self._workers.discard(task)

    async def end(self) -> None:
        """Stop all who still work for it, and forget what they made."""
        if not self.session.done():
            self.session.set_exception(NotFound(f"no such job {self.ref}"))
            self.session.exception()  # seen, also if nobody drives the build
        if not self.ended:
            self.progress.end()
            for task in self._workers:
                task.cancel()  # once: who is cancelled twice does not tell its client
        if self._workers:
            await asyncio.wait(set(self._workers))
        self.results.clear()
        for view in self.views.values():
            view.close()
        self.views.clear()


class Jobs:
    """All builds of one engine that were asked for by gRPC."""

    def __init__(self, builder: Builder, outlet: Outlet, sessions: Sessions) -> None:
        self.builder, self.outlet, self.sessions = builder, outlet, sessions
        self._jobs: dict[str, Job] = {}
        self._arrival = asyncio.Event()  # of the next one

    @asynccontextmanager
    async def open(self, ref: str) -> AsyncIterator[Job]:
        """Give a new job; it ends with the context, and can be asked about a little longer."""
        if not ref:
            raise InvalidArgument("a build has a ref")
        if ref in self._jobs:
            raise InvalidArgument(f"job {ref} exists")
        loop = asyncio.get_running_loop()
        job = Job(ref, Progress(ref), loop.create_future(), loop.create_future())
        self._jobs[ref] = job
        self._arrival.set()
        self._arrival = asyncio.Event()
        try:
            yield job
        finally:
            loop.call_later(_MEMORY, self._jobs.pop, ref)
            await job.end()

    def running(self, ref: str) -> Job | None:
        """Return a job that has not been forgotten, if there is one."""
        return self._jobs.get(ref)

    async def find(self, ref: str) -> Job:
        """Return a job, waiting for it a little; raises NotFound."""
        if not ref:
            raise InvalidArgument("a build has a ref")
        try:
            async with asyncio.timeout(_PATIENCE):
                while ref not in self._jobs:
                    await self._arrival.wait()
        except TimeoutError:
            raise NotFound(f"no such job {ref}") from None
        return self._jobs[ref]

    async def build(
        self, job: Job, attributes: Mapping[str, str], inputs: Mapping[str, Definition]
    ) -> list[Built]:
        """Build what the attributes of a front end ask for, for each platform.

        `inputs` are what some attributes name.
        """
        wish, session = wish_of(attributes, inputs), await job.client()
        caches = imports_of(attributes, job.imports)
        job.attributes.update(attributes)
        key = "" if wish.remote else session.shared_key
        with self._material(job, session, wish, key and f"{key}/{wish.context_name}") as material:
            definition, recipe = await material.recipe()
            context = material.context()
            client = SessionClient(session, self.result, job.policy)
            imports = self.builder.imports()
            await Caching(self.outlet, session, job.progress).use(imports, caches)
            made = await self._solve(job, wish, recipe, context, client, imports)
            told = warnings(definition, recipe, made[0].violations)
            job.progress.tell(StatusResponse(warnings=told))
            return made

    async def _solve(
        self,
        job: Job,
        wish: Wish,
        recipe: Recipe,
        context: MainContext,
        client: SessionClient,
        imports: Imports,
    ) -> list[Built]:
        """Build for all platforms, beside each other."""

        async def one(platform: str) -> Built:
            options = msgspec.structs.replace(
                wish.options, platform=platform, entitlements=list(job.entitlements)
            )
            display = partial(Vertices, job.progress, platform if wish.is_index else "")
            return await self.builder.solve(options, recipe, context, client, display, imports)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(platform)) for platform in wish.platforms]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def ask(self, job: Job, attributes: Mapping[str, str]) -> Mapping[str, bytes]:
        """Answer a question about a Dockerfile (`requestid`), without building anything."""
        wish, session = wish_of(attributes), await job.client()
        with self._material(job, session, wish, "") as material:
            _, recipe = await material.recipe()
            nothing = Tree(material.spool)
            return await answer(self.builder, wish.question, wish.options, recipe, nothing)

    @contextmanager
    def _material(self, job: Job, session: Session, wish: Wish, kept: str) -> Iterator[Material]:
        """Give what a build is made of; `kept` names the context that an earlier one has left."""
        builder = self.builder
        with builder.spool() as spool, builder.contexts.transfer(kept) as transfer:
            yield Material(builder, job.progress, session, wish, transfer, spool, job.policy)

    async def look(self, job: Job, definition: Definition) -> str:
        """Return a name for the files that a definition means."""
        address = address_of(definition)
        view = View.empty(self.builder.scratch())
        try:
            with job.progress.during(f"load {address}"):
                await self.builder.incoming.load(address, view.tree, "context")
        except BaseException:
            view.close()
            raise
        name = secrets.token_hex(16)
        job.views[name] = view
        return name

    def result(self, name: str) -> Built:
        """Return what a build has made that has not ended."""
        for job in self._jobs.values():
            if name in job.results:
                return job.results[name]
        raise NotFound(f"no such result: {name}")
