"""Runs what a target needs: stages beside each other, each step once or from the cache."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace

from sampan.build.attesting.materials import Materials
from sampan.build.caching.cache import Cache, Record, key_of
from sampan.build.contexts.main_context import MainContext
from sampan.build.contexts.named import Contexts
from sampan.build.dockerfiles.arguments import Arguments
from sampan.build.dockerfiles.dockerfile import Dockerfile, Stage, parse_triggers
from sampan.build.dockerfiles.faults import mark
from sampan.build.dockerfiles.graph import Needed, Plan, stage_from
from sampan.build.dockerfiles.shell import Shell
from sampan.build.entitlements import Entitlements
from sampan.build.files.fetching import Sources
from sampan.build.files.layer import Item, write_layer
from sampan.build.files.places import locate, owner_of
from sampan.build.files.rewriting import Rewriting
from sampan.build.files.tree import folder
from sampan.build.instructions import metadata, model
from sampan.build.instructions import run as running
from sampan.build.instructions.copy import Copying
from sampan.build.instructions.mounts import read_mount
from sampan.build.instructions.wanted import expand, key_of_words
from sampan.build.mounts.mounting import Mounting
from sampan.build.mounts.prepared import Prepared
from sampan.build.remotecache.importing import Imports
from sampan.build.remotecache.records import Step
from sampan.build.state import State, extended
from sampan.build.telling.chapters import SCRATCH, base_of, chapter_of, text_of, work_of
from sampan.build.telling.display import Speaker, Voices
from sampan.build.telling.wording import BUILDKIT, CLASSIC
from sampan.build.worker import Clients, Worker
from sampan.errors import InvalidArgument, SampanError
from sampan.spec.build import BuildOptions, RunStep
from sampan.spec.digest import chain_id
from sampan.spec.image import History, ImageConfig, timestamp
from sampan.spec.platform import Platform


class StepFailed(Exception):
    """A command of RUN ended with another code than 0."""

    def __init__(self, command: str, code: int) -> None:
        super().__init__(f"The command '{command}' returned a non-zero code: {code}")
        self.code = code
        self.sentence = f'process "{command}" did not complete successfully: exit code: {code}'


@dataclass(frozen=True, slots=True)
class Build:
    """All that one build is made of."""

    worker: Worker
    cache: Cache
    options: BuildOptions
    dockerfile: Dockerfile
    plan: Plan
    arguments: Arguments
    context: MainContext
    sources: Sources
    mounting: Mounting
    contexts: Contexts
    clients: Clients
    entitlements: Entitlements
    epoch: int | None = None  # SOURCE_DATE_EPOCH, in seconds
    # With --cache-from, as Docker's classic builder has it, the steps of those images alone count;
    # each is known by its time.
    cache_times: frozenset[str] | None = None
    imports: Imports = field(kw_only=True)
    materials: Materials = field(default_factory=Materials)

    def now(self) -> int:
        """Return the time of what is made now, in nanoseconds."""
        return time.time_ns() if self.epoch is None else self.epoch * 10**9


class Solver:
    """One build."""

    def __init__(self, build: Build, display: Voices) -> None:
        self._build, self.display = build, display
        self._states: dict[int, asyncio.Future[State]] = {}
        self.used: set[str] = set()  # keys of records
        self.steps: dict[str, Step] = {}  # all that was done or found, by the keys of records

    async def solve(self) -> State:
        """Return what the target is. Raises StepFailed, and what is wrong with the Dockerfile."""
        loop = asyncio.get_running_loop()
        stages = self._build.plan.stages
        self._states = {needed.stage.number: loop.create_future() for needed in stages}
        try:
            async with asyncio.TaskGroup() as group:
                if self._build.plan.needs_context:
                    group.create_task(self._build.context.files())  # beside all else
                for needed in stages:
                    chapter = chapter_of(self._build.dockerfile, needed)
                    group.create_task(self._stage(needed, self.display.voice(chapter)))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return self._states[self._build.plan.target.number].result()

    def states(self) -> dict[int, State]:
        """Return what all stages are, by their numbers, when the target is there."""
        return {number: state.result() for number, state in self._states.items()}

    async def _stage(self, needed: Needed, voice: Speaker) -> None:
        try:
            run = _StageRun(self, self._build, needed, voice)
            self._states[needed.stage.number].set_result(await run.run())
        except BaseException as error:
            voice.fail(error)
            raise
        voice.end()

    async def state_of(self, stage: Stage) -> State:
        """Return what another stage is, when it is there."""
        if stage.number not in self._states:
            raise InvalidArgument(f"stage {stage.name} is not part of this build")
        return await asyncio.shield(self._states[stage.number])


class _StageRun:
    """One stage of one build."""

    def __init__(self, solver: Solver, build: Build, needed: Needed, voice: Speaker) -> None:
        self._solver, self._build, self._needed, self._voice = solver, build, needed, voice
        self._shell = Shell(build.dockerfile.source.escape)
        self._wording = BUILDKIT if build.options.buildkit else CLASSIC

    async def run(self) -> State:
        stage = self._needed.stage
        number = self._needed.first
        state = await self._begin(number)
        for it in stage.instructions:
            number += 1
            self._voice.step(number, text_of(it), work_of(it))
            state = await self._step(state, it)
        self._voice.image(state.id)
        return state

    async def _begin(self, number: int) -> State:
        needed, begin = self._needed, self._needed.stage.begin
        self._voice.step(number, begin.place.text, base_of(needed))
        if needed.below is not None:
            state = await self._solver.state_of(needed.below)
        elif named := await self._context(needed.image):
            state = named
        elif needed.image == SCRATCH:
            state = State.empty(self._platform())
        else:
            state = await self._image(needed.image)
        self._voice.result(None if needed.image == SCRATCH else state.id)
        return await self._triggers(state)

    def _platform(self) -> Platform | None:
        text = self._needed.platform or self._build.options.platform
        return Platform.parse(text) if text else None

    async def _image(self, name: str) -> State:
        build = self._build
        base = await build.worker.base(
            name,
            self._platform(),
            pull=build.options.pull,
            clients=build.clients,
            say=self._voice.say,
        )
        return State.of(base)

    async def _context(self, name: str) -> State | None:
        """Return the named context that stands for an image, if one does."""
        return await self._build.contexts.state(name, self._platform(), self._solver.display)

    async def _triggers(self, state: State) -> State:
        """Run what the base image has for those that are built on it."""
        triggers = state.run.on_build
        if not triggers:
            return state
        instructions = parse_triggers(triggers)
        plural = "s" if len(instructions) > 1 else ""
        self._voice.text(f"# Executing {len(instructions)} build trigger{plural}\n")
        draft = state.draft()
        draft.run.on_build = None
        state = state.changed(draft)
        for it in instructions:
            state = await self._step(state, it)
        return state

    # --- steps -----------------------------------------------------------------------------

    async def _step(self, state: State, it: model.Instruction) -> State:
        try:
            state = await self._do(state, it)
        except SampanError as error:
            place, source = it.place, self._build.dockerfile.source
            if not place.first or "\n---" in str(error):
                raise
            located = type(error)(f"{error}\n{source.excerpt(place.first, place.last)}")
            raise mark(located, source.fault(str(error), place.first, place.last)) from error
        except StepFailed as error:
            if it.place.first:
                source = self._build.dockerfile.source
                mark(error, source.fault(error.sentence, it.place.first, it.place.last))
            raise
        self._voice.result(state.id)
        return state

    async def _do(self, state: State, it: model.Instruction) -> State:
        return await self._by_kind(metadata.Scope(self._shell, state), it)

    async def _by_kind(self, scope: metadata.Scope, it: model.Instruction) -> State:
        state = scope.state
        if isinstance(it, model.Arg):
            return await self._arg(scope, it)
        if isinstance(it, model.Run):
            return await self._run(state, it)
        if isinstance(it, model.Copy):
            return await self._copy(scope, it)
        if isinstance(it, model.Workdir):
            return await self._workdir(scope, it)
        draft, text = metadata.change(scope, it)
        if isinstance(it, model.Entrypoint) and not state.command_set:
            draft.run.cmd = None
        told = self._wording.change(scope, it, draft, text)
        state = await self._recorded(state, draft, text, told)
        if isinstance(it, model.Command):
            state = replace(state, command_set=True)
        return state

    async def _arg(self, scope: metadata.Scope, it: model.Arg) -> State:
        arguments = dict(scope.state.arguments)
        values: list[tuple[str, str | None, str | None]] = []
        for name, default in it.variables:
            given = None if default is None else scope.word(default)
            value = self._build.arguments.declare(name, given)
            if value is None:
                arguments.pop(name, None)
            else:
                arguments[name] = value
            values.append((name, given, value))
            scope.variables = {**arguments, **scope.state.env}
        draft = scope.state.draft()
        told = self._wording.argument(draft, values)
        state = await self._recorded(scope.state, draft, told, told)
        declared = dict.fromkeys([*state.declared, *(name for name, _, _ in values)])
        return replace(state, arguments=arguments, declared=tuple(declared))

    async def _recorded(self, state: State, draft: ImageConfig, text: str, told: str) -> State:
        """Return a changed configuration, with the time at which this was first done."""
        key = key_of("configuration", state.id(), text)
        record = await self._find(key, state)
        if record is None:
            record = await self._note(key, state, "", text)
        else:
            self._voice.cached()
        config = extended(draft, self._told(record, told, draft.author), "")
        self._solver.steps[record.key] = Step(record.created)
        return state.changed(config)

    def _told(self, record: Record, text: str, author: str) -> History:
        """Return what the history says of a step."""
        return History(
            created=timestamp(record.created),
            created_by=text,
            author=author if self._wording.has_author else "",
            comment=self._wording.comment,
        )

    async def _find(self, key: str, state: State) -> Record | None:
        build, stage = self._build, self._needed.stage
        if build.options.no_cache or stage.begin.name in build.options.no_cache_stages:
            return None
        key = self._key(key)
        record = build.cache.find(key)
        if record is None:
            record = await build.imports.find(key, state.chain)
        times = build.cache_times
        if record is None or (times is not None and timestamp(record.created) not in times):
            return None
        self._solver.used.add(key)
        return record

    def _key(self, key: str) -> str:
        """Return a key under which nothing made for another epoch is found."""
        epoch = self._build.epoch
        return key if epoch is None else key_of("epoch", str(epoch), key)

    async def _note(self, key: str, state: State, diff_id: str, text: str) -> Record:
        chain = chain_id([*state.config.diff_ids, diff_id]) if diff_id else None
        now = self._build.now()
        below = state.chain or ""
        key = self._key(key)
        record = Record(key, chain or "", diff_id, below, now, time.time_ns(), 0, text)
        await self._build.cache.add(record)
        return record

    async def _layered(self, state: State, record: Record, text: str) -> State:
        told = self._told(record, text, state.config.author)
        config = extended(state.draft(), told, record.diff_id)
        layers = tuple(config.diff_ids) if record.diff_id else ()
        self._solver.steps[record.key] = Step(record.created, layers)
        return state.changed(config)

    async def _run(self, state: State, it: model.Run) -> State:
        build = self._build
        command = running.command_of(state, it, build.arguments.proxies())
        step = running.step_of(state, it, command, build.options)
        build.entitlements.check(network=step.network, insecure=step.privileged)
        step.devices = await build.entitlements.found(it.devices, build.worker.devices)
        build.materials.network |= step.network != "none"
        mounts = await self._mounts(state, it)
        key = running.key_of_run(step, command, mounts.keys)
        async with build.cache.turn(key):
            record = await self._find(key, state)
            if record is not None:
                self._voice.cached()
            else:
                async with AsyncExitStack() as stack:
                    await mounts.make(stack, step)
                    places = await build.mounting.places(state.chain, mounts.targets)
                    diff_id = await self._execute(step, command, places)
                record = await self._note(key, state, diff_id, command.text)
        return await self._layered(state, record, self._wording.run(state, command))

    async def _mounts(self, state: State, it: model.Run) -> Prepared:
        scope = metadata.Scope(self._shell, state)
        wishes = [read_mount(text, scope.word) for text in it.mounts]
        self._build.materials.note_mounts(wishes)
        mounting = self._build.mounting
        prepared = await mounting.prepare(wishes, state.run.working_dir, self._diff_ids)
        if content := running.executable(it):
            mounting.script(content, running.script_path(it), prepared)
        return prepared

    async def _execute(
        self, step: RunStep, command: running.Command, places: Sequence[bytes]
    ) -> str:
        """Run a command; return the diff id of what it changed. `places` are only for mounts."""
        build, container, change = self._build, "", None

        def started(id: str) -> None:
            nonlocal container
            container = id
            self._voice.running(id)

        if places or build.epoch is not None:
            change = Rewriting(build.context.spool, places, build.epoch)
        ran = await build.worker.run(step, started, self._voice.output, change)
        if ran.exit_code:
            raise StepFailed(command.text, ran.exit_code)
        self._voice.removed(container)
        return ran.diff_id

    async def _copy(self, scope: metadata.Scope, it: model.Copy) -> State:
        build, state = self._build, scope.state
        wanted = expand(scope, it)
        if it.origin:
            wanted = replace(wanted, origin=await self._origin(it.origin) or "")
        text = self._wording.copy(state.config, wanted)
        # Of another state nothing changes while its layers are the same: then no file is read.
        short = key_of_words(state.chain, wanted) if it.origin else None
        record = await self._find(short, state) if short else None
        if record is not None:
            self._voice.cached()
            return await self._layered(state, record, text)
        copy = Copying(build.worker, state.chain, wanted)
        key = await copy.choose(build.sources, build.context)
        async with build.cache.turn(key):
            record = await self._find(key, state)
            if record is not None:
                self._voice.cached()
            else:
                diff_id = await copy.make(build.epoch)
                record = await self._note(key, state, diff_id, wanted.text)
        if short and build.cache.has(record.key):  # not of a cache that only this build believes
            await build.cache.add(replace(record, key=self._key(short)))
        return await self._layered(state, record, text)

    async def _origin(self, name: str) -> str | None:
        """Return the chain id of what `--from` means."""
        return chain_id(await self._diff_ids(name))

    async def _diff_ids(self, name: str) -> Sequence[str]:
        """Return the layers of a stage, or of an image."""
        build = self._build
        stage = stage_from(build.dockerfile, self._needed.stage, name)
        if stage is not None:
            return (await self._solver.state_of(stage)).config.diff_ids
        if named := await self._context(name):
            return named.config.diff_ids
        try:
            base = await build.worker.base(
                name, self._platform(), pull=False, clients=build.clients, say=self._voice.say
            )
        except SampanError as error:
            raise type(error)(f"invalid from flag value {name}: {error}") from error
        return base.config.diff_ids

    async def _workdir(self, scope: metadata.Scope, it: model.Workdir) -> State:
        state = scope.state
        path = metadata.working_dir(scope, it.path)
        user = state.run.user
        key = key_of("workdir", state.chain, path, *([user] if user else []))
        record = await self._find(key, state)
        if record is not None:
            self._voice.cached()
        else:
            diff_id = await self._make_folder(state, path)
            record = await self._note(key, state, diff_id, f"WORKDIR {path}")
        draft = state.draft()
        draft.run.working_dir = path
        text = self._wording.workdir(draft, path)
        return await self._layered(state.changed(draft), record, text)

    async def _make_folder(self, state: State, path: str) -> str:
        """Make a folder and those above it, where they are missing; return the layer's diff id.

        They belong to the user of the state. Source: buildkit dockerfile2llb dispatchWorkdir.
        """
        place = await locate(self._build.worker, state.chain, path)
        if place.exists:
            if not place.is_folder:
                raise InvalidArgument(f"Cannot mkdir: {path} is not a directory")
            return ""
        worker, user, mtime = self._build.worker, state.run.user, self._build.now()
        owner = None
        if user:
            with suppress(InvalidArgument):  # whom nobody knows yet: then it is root's
                owner = await owner_of(worker, state.chain, user)
        paths: Sequence[bytes] = [*place.missing_folders(), place.path]
        items = [Item(one, folder(mtime=mtime), owner=owner) for one in paths]
        epoch = self._build.epoch
        return await worker.layer(state.chain, lambda into: write_layer(items, into, epoch))
