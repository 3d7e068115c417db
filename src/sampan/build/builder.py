"""Builds as clients ask for them: a context comes in, messages go out, an image is there.

Source: moby daemon/builder/backend, daemon/builder/dockerfile/builder.go (order of messages).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import (
    AsyncGenerator,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final, cast

import msgspec

from sampan.build.attesting.extras import extras_of
from sampan.build.attesting.materials import Materials, Witness
from sampan.build.built import Built, Recipe
from sampan.build.caching.cache import Cache
from sampan.build.caching.housekeeping import Housekeeping
from sampan.build.contexts.incoming import Incoming
from sampan.build.contexts.kept import KeptContexts
from sampan.build.contexts.main_context import MainContext
from sampan.build.contexts.named import Contexts
from sampan.build.contexts.reading import take_dockerfile
from sampan.build.dockerfiles.arguments import Arguments, platform_arguments
from sampan.build.dockerfiles.dockerfile import Dockerfile, Stage, parse_dockerfile
from sampan.build.dockerfiles.graph import plan
from sampan.build.dockerfiles.linting import Checks, Violation, lint
from sampan.build.dockerfiles.outline import Outline, Target, outline, targets
from sampan.build.dockerfiles.shell import Shell
from sampan.build.earlier import Database
from sampan.build.entitlements import SUPPORTED, Entitlements
from sampan.build.files.fetching import Sources
from sampan.build.files.squashing import squashed
from sampan.build.files.tree import Spool, Tree
from sampan.build.instructions.model import Label, Place
from sampan.build.mounts.mounting import Mounting
from sampan.build.policed import policed
from sampan.build.remotecache.importing import Imports
from sampan.build.remotecache.records import Blob
from sampan.build.results import Results
from sampan.build.solver import Build, Solver, StepFailed
from sampan.build.state import State
from sampan.build.telling.backlog import Backlog
from sampan.build.telling.display import Classic, Say, Telling, Voices
from sampan.build.telling.history import Memory
from sampan.build.worker import Clients, Nobody, Worker
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.build import BuildOptions, GCPolicy
from sampan.spec.docker.images import ErrorDetail, ProgressMessage
from sampan.spec.image import Descriptor, ImageConfig
from sampan.spec.platform import Platform

log = logging.getLogger(__name__)
Messages = AsyncGenerator[ProgressMessage, None]
_INLINE: Final = "BUILDKIT_INLINE_CACHE"
_EPOCH: Final = "SOURCE_DATE_EPOCH"
_LATEST: Final = ((1 << 63) - 1) // 10**9  # seconds that as nanoseconds have 64 bits


class Builder:
    """The builds of one engine, and their cache."""

    def __init__(
        self,
        worker: Worker,
        database: Database,
        supported: Collection[str] = SUPPORTED,
        policies: Sequence[GCPolicy] | None = None,
    ) -> None:
        self._worker, self.cache = worker, Cache(database, worker)
        self.contexts = KeptContexts(worker.scratch)
        self.history = Memory(database, worker)
        self._supported = supported  # entitlements that clients may grant
        self.housekeeping = Housekeeping(worker, self.cache, self.contexts, policies)
        self.incoming, self.results = Incoming(worker), Results(worker)

    def entitlements(self, granted: Sequence[str]) -> Entitlements:
        """Return what a client grants; InvalidArgument for what it may not."""
        return Entitlements.parse(granted, self._supported)

    def scratch(self) -> int:
        """Return a file without a name, for the contents of a context."""
        return self._worker.scratch()

    @contextmanager
    def spool(self) -> Iterator[Spool]:
        """Give a place for the contents of files, which goes with them."""
        spool = Spool(self._worker.scratch())
        try:
            yield spool
        finally:
            spool.close()

    async def build(
        self,
        options: BuildOptions,
        context: Tree,
        clients: Clients,
        telling: Callable[[Say], Telling] | None = None,
    ) -> Messages:
        """Build an image and yield what Docker's classic builder says, or what `telling` makes.

        Raises InvalidArgument for what is wrong with the Dockerfile. A step that fails is told in
        the last message. Closing before the end stops the build and leaves nothing.
        """
        backlog = Backlog()
        told = (telling or partial(Classic, options))(backlog.put)
        work = self._build(options, context, clients, backlog.put, told)
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: backlog.put(None))
        try:
            while (message := await backlog.get()) is not None:
                yield message
            await task
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # seen: whoever closes before the end does not ask
            context.spool.close()

    async def _build(
        self, options: BuildOptions, context: Tree, clients: Clients, say: Say, told: Telling
    ) -> None:
        recipe = await self.recipe(context, options.dockerfile)
        async with self.intake():
            try:
                built = await self.solve(
                    options, recipe, MainContext(context), clients, told.voices
                )
            except StepFailed as failure:
                detail = ErrorDetail(code=failure.code, message=str(failure))
                say(ProgressMessage(error_detail=detail, error=str(failure)))
                return
            await self._finish(options, built, told)

    async def recipe(self, context: Tree, name: str) -> Recipe:
        """Take the Dockerfile out of a context; InvalidArgument if there is none."""
        return Recipe(*await self._worker.call(partial(take_dockerfile, context, name)))

    @property
    def worker(self) -> Worker:
        """Who does the work."""
        return self._worker

    def imports(self) -> Imports:
        """Return caches that are stored elsewhere, none yet, for one build."""
        return Imports(self._worker)

    def intake(self) -> AbstractAsyncContextManager[None]:
        """Keep what a build makes until it has a name, or was handed out."""
        return self._worker.intake()

    async def solve(
        self,
        options: BuildOptions,
        recipe: Recipe,
        context: MainContext,
        clients: Clients,
        display: Callable[[int], Voices],
        imports: Imports | None = None,
    ) -> Built:
        """Make what a Dockerfile says; `display` gets the number of steps. Hold an intake.

        `imports` are caches that are stored elsewhere.
        Raises InvalidArgument for what is wrong with the Dockerfile, StepFailed.
        """
        dockerfile = await self._parsed(recipe)
        prepared = self._prepared(options, dockerfile, context, clients)
        build = await self._with_caches(prepared, imports)
        checks = _checks(dockerfile, options)
        checks.apply(await self._violations(build, recipe))  # errors are told before the work
        voices = _opened(display(build.plan.steps), dockerfile)
        solver = Solver(build, voices)
        try:
            state = await solver.solve()
            extras = await extras_of(build, solver.states())
        finally:
            await self.cache.note_uses(solver.used | build.contexts.used)
        if options.squash:
            state = await squashed(self._worker, build.context.spool, state)
        await self.housekeeping.sweep()
        return Built(
            state,
            build.arguments.unused(),
            build.epoch,
            violations=checks.apply(await self._violations(build, recipe)),
            platform=_platform(options, state),
            steps=solver.steps,
            materials=build.materials,
            recipe=recipe,
            inline=options.arguments.get(_INLINE) in ("1", "true"),
            extras=extras,
        )

    async def check(self, options: BuildOptions, recipe: Recipe, context: Tree) -> list[Violation]:
        """Return what BuildKit's checks find in a Dockerfile, without building anything.

        Raises InvalidArgument for what is wrong with it.
        """
        dockerfile = await self._parsed(recipe)
        build = self._prepared(options, dockerfile, MainContext(context), Nobody())
        checks = replace(_checks(dockerfile, options), are_errors=False)
        return checks.apply(await self._violations(build, recipe, dockerfile.stages))

    async def _violations(
        self, build: Build, recipe: Recipe, stages: Sequence[Stage] = ()
    ) -> list[Violation]:
        """Return what the checks find; of images that are not here nothing is known."""
        known: dict[int, Mapping[str, str] | None] = {}
        stages = stages or [one.stage for one in build.plan.stages]
        shell = Shell(build.dockerfile.source.escape)
        for stage in stages:
            name = ""
            with suppress(NotFound, InvalidArgument):
                name = shell.word(stage.begin.image, build.arguments.from_variables())
                known[stage.number] = {"PATH": ""}
                if name != "scratch":
                    known[stage.number] = None
                    config = (await self._worker.image(name)).config
                    known[stage.number] = _environment(config)
        arguments = replace(build.arguments, consumed=set())
        return lint(build.dockerfile, stages, arguments, known, recipe.ignored)

    async def targets(self, recipe: Recipe) -> list[Target]:
        """Return the stages of a Dockerfile. Raises InvalidArgument for what is wrong with it."""
        return targets(await self._parsed(recipe))

    async def outline(self, options: BuildOptions, recipe: Recipe, context: Tree) -> Outline:
        """Return what a target takes. Raises InvalidArgument for what is wrong with it."""
        dockerfile = await self._parsed(recipe)
        build = self._prepared(
            msgspec.structs.replace(options, labels={}), dockerfile, MainContext(context), Nobody()
        )
        return outline(dockerfile, build.plan, build.arguments)

    async def _parsed(self, recipe: Recipe) -> Dockerfile:
        return await self._worker.call(partial(parse_dockerfile, recipe.content, recipe.name))

    def _prepared(
        self, options: BuildOptions, dockerfile: Dockerfile, context: MainContext, clients: Clients
    ) -> Build:
        epoch = _epoch(options.arguments.get(_EPOCH))
        materials = Materials()
        worker = cast("Worker", Witness(policed(self._worker, clients.policy), materials))
        sources = Sources(worker, context.spool, materials)
        contexts = Contexts(worker, self.cache, clients, options, epoch)
        contexts.names.override(dockerfile)
        target = dockerfile.target(options.target)
        _add_labels(target, options.labels)
        platform = Platform.parse(options.platform) if options.platform else Platform.host()
        automatic = platform_arguments(platform, target.begin.name)
        arguments = Arguments(options.arguments, automatic, Shell(dockerfile.source.escape))
        arguments.declare_top(dockerfile.arguments)
        return Build(
            worker=worker,
            cache=self.cache,
            options=options,
            dockerfile=dockerfile,
            plan=plan(dockerfile, target, arguments.from_variables()),
            arguments=arguments,
            context=context,
            sources=sources,
            mounting=Mounting(self._worker, self.cache, context, clients, sources),
            contexts=contexts,
            clients=clients,
            entitlements=self.entitlements(options.entitlements),
            epoch=epoch,
            imports=self.imports(),
            materials=materials,
        )

    async def _with_caches(self, build: Build, imports: Imports | None) -> Build:
        """Return a build that may use caches that are stored elsewhere."""
        imports = self.imports() if imports is None else imports
        if not build.options.cache_from:
            return replace(build, imports=imports)
        times = await self._times(build.options.cache_from, imports)
        return replace(build, imports=imports, cache_times=times)

    async def _times(self, names: Sequence[str], imports: Imports) -> frozenset[str]:
        """Return when the steps of images were made; those that are not here have none.

        What the images themselves tell of their steps is used, too.
        """
        found: set[str] = set()
        for name in names:
            with suppress(NotFound, InvalidArgument):
                image = await self._worker.image(name)
                history = image.config.history or []
                found |= {step.created for step in history if step.created}
                layers = [
                    Blob(Descriptor(digest=one, size=0), one) for one in image.config.diff_ids
                ]
                imports.add_inline(await self._worker.config(image.id), layers, None)
        return frozenset(found)

    async def _finish(self, options: BuildOptions, built: Built, told: Telling) -> None:
        """Store the image, give it its names, and say so."""
        with told.exporting() as say:
            image, names = await self.results.named(built, options.tags, say)
        told.finished(built, image, names)


def _opened(voices: Voices, dockerfile: Dockerfile) -> Voices:
    """Tell of the arguments before the first stage, which are steps of the classic builder."""
    for number, argument in enumerate(dockerfile.arguments, 1):
        voices.argument(number, argument.place.text)
    return voices


def _environment(config: ImageConfig) -> dict[str, str]:
    return dict(one.partition("=")[::2] for one in config.run.env or [])


def _checks(dockerfile: Dockerfile, options: BuildOptions) -> Checks:
    """Return which checks count: the client's word goes before that of the file."""
    given = options.arguments.get("BUILDKIT_DOCKERFILE_CHECK")
    return Checks.parse(given or dockerfile.source.directives.get("check", ""))


def _add_labels(stage: Stage, labels: Mapping[str, str]) -> None:
    """Add a last step that sets the labels of the client, as Docker does."""
    if not labels:
        return
    pairs = sorted(labels.items())
    text = "LABEL " + " ".join(f"{json.dumps(name)}='{value}'" for name, value in pairs)
    quoted = [(_literal(name), _literal(value)) for name, value in pairs]
    stage.instructions.append(Label(pairs=quoted, of_client=True, place=Place(text=text)))


def _literal(text: str) -> str:
    """Return a word that expands to `text`."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _platform(options: BuildOptions, state: State) -> Platform:
    return Platform.parse(options.platform) if options.platform else state.config.platform


def _epoch(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) <= _LATEST):
        raise InvalidArgument(f"invalid {_EPOCH}: {text}")
    return int(text)
