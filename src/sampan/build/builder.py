"""Builds as clients ask for them: a context comes in, messages go out, an image is there.

Source: moby daemon/builder/backend, daemon/builder/dockerfile/builder.go (order of messages).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from sampan.build.arguments import Arguments, platform_arguments
from sampan.build.cache import Cache, Database
from sampan.build.context import hide_ignored, read_context, read_page, take_dockerfile
from sampan.build.display import Display, Say
from sampan.build.dockerfile import Dockerfile, Stage, parse_dockerfile
from sampan.build.fetching import Sources
from sampan.build.graph import plan
from sampan.build.instructions.model import Label, Place
from sampan.build.pruning import PruneWish, to_prune
from sampan.build.shell import Shell
from sampan.build.solver import Build, Solver, StepFailed
from sampan.build.state import State
from sampan.build.tree import Spool, Tree
from sampan.build.worker import Worker
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.build import BuildCachePruneReport, BuildOptions
from sampan.spec.docker.images import ErrorDetail, ProgressMessage
from sampan.spec.names import short_id
from sampan.spec.platform import Platform

Messages = AsyncGenerator[ProgressMessage, None]
_EPOCH: Final = "SOURCE_DATE_EPOCH"


class Builder:
    """The builds of one engine, and their cache."""

    def __init__(self, worker: Worker, database: Database) -> None:
        self._worker, self.cache = worker, Cache(database, worker)

    async def receive(self, chunks: AsyncIterable[bytes]) -> Tree:
        """Take a context in; whoever has it closes it by `build`, or its spool."""
        tree = Tree(Spool(self._worker.scratch()))
        try:
            await self._worker.feed(chunks, lambda fd: read_context(tree, fd))
        except BaseException:
            tree.spool.close()
            raise
        return tree

    async def fetch(self, url: str, options: BuildOptions) -> Tree:
        """Return the context that a web page is: an archive, or a Dockerfile alone."""
        tree = Tree(Spool(self._worker.scratch()))
        try:
            await self._worker.download(url, lambda fd: read_page(tree, fd, options.dockerfile))
            await self._worker.call(lambda: hide_ignored(tree, options.dockerfile))
        except BaseException:
            tree.spool.close()
            raise
        return tree

    async def build(self, options: BuildOptions, context: Tree, clients: object) -> Messages:
        """Build an image and yield what Docker's classic builder says.

        Raises InvalidArgument for what is wrong with the Dockerfile. A step that fails is told in
        the last message. Closing before the end stops the build and leaves nothing.
        """
        queue: asyncio.Queue[ProgressMessage | None] = asyncio.Queue()
        work = self._build(options, context, clients, queue.put_nowait)
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (message := await queue.get()) is not None:
                yield message
            await task
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # seen: whoever closes before the end does not ask
            context.spool.close()

    async def _build(self, options: BuildOptions, context: Tree, clients: object, say: Say) -> None:
        content, name = await self._worker.call(
            lambda: take_dockerfile(context, options.dockerfile)
        )
        dockerfile = await self._worker.call(lambda: parse_dockerfile(content, name))
        async with self._worker.intake():
            build = self._prepared(options, dockerfile, context, clients)
            if options.cache_from:
                build = replace(build, cache_times=await self._times(options.cache_from))
            display = Display(say, build.plan.steps, quiet=options.quiet)
            for number, argument in enumerate(dockerfile.arguments, 1):
                text = f"Step {number}/{build.plan.steps} : {argument.place.text}\n"
                _text(say, options, text)
            solver = Solver(build, display)
            try:
                state = await solver.solve()
            except StepFailed as failure:
                detail = ErrorDetail(code=failure.code, message=str(failure))
                say(ProgressMessage(error_detail=detail, error=str(failure)))
                return
            finally:
                await self.cache.note_uses(solver.used)
            await self._finish(build, state, say)

    def _prepared(
        self, options: BuildOptions, dockerfile: Dockerfile, context: Tree, clients: object
    ) -> Build:
        target = dockerfile.target(options.target)
        _add_labels(target, options.labels)
        platform = Platform.parse(options.platform) if options.platform else Platform.host()
        automatic = platform_arguments(platform, target.begin.name)
        arguments = Arguments(options.arguments, automatic, Shell(dockerfile.source.escape))
        arguments.declare_top(dockerfile.arguments)
        return Build(
            worker=self._worker,
            cache=self.cache,
            options=options,
            dockerfile=dockerfile,
            plan=plan(dockerfile, target, arguments.from_variables()),
            arguments=arguments,
            context=context,
            sources=Sources(self._worker, context.spool),
            clients=clients,
            epoch=_epoch(options.arguments.get(_EPOCH)),
        )

    async def _times(self, names: Sequence[str]) -> frozenset[str]:
        """Return when the steps of images were made; those that are not here have none."""
        found: set[str] = set()
        for name in names:
            with suppress(NotFound, InvalidArgument):
                history = (await self._worker.image(name)).config.history or []
                found |= {step.created for step in history if step.created}
        return frozenset(found)

    async def _finish(self, build: Build, state: State, say: Say) -> None:
        """Store the image, give it its names, and say so."""
        options = build.options
        if unused := build.arguments.unused():
            listed = " ".join(unused)
            _text(say, options, f"[Warning] One or more build-args [{listed}] were not consumed\n")
        image = state.image
        if not image:
            if not state.config.history:
                raise InvalidArgument("No image was generated. Is your Dockerfile empty?")
            image = await self._worker.add_image(state.encoded(), "")
        if options.quiet:
            say(ProgressMessage(stream=f"{image}\n"))
        _text(say, options, f"Successfully built {short_id(image)}\n")
        for name in options.tags:
            shown = await self._worker.tag(image, name)
            _text(say, options, f"Successfully tagged {shown}\n")

    async def prune(self, wish: PruneWish) -> BuildCachePruneReport:
        """Forget records, and remove the layers that only they held."""
        records = to_prune(self.cache.records(), wish, self._worker.layer_size)
        sizes = {it.chain: self._worker.layer_size(it.chain) for it in records if it.chain}
        gone = await self.cache.remove(record.key for record in records)
        await self._worker.collect()
        freed = sum(size for chain, size in sizes.items() if not self._worker.has_layer(chain))
        return BuildCachePruneReport(
            caches_deleted=[record.key[:25] for record in gone] or None, space_reclaimed=freed
        )


def _text(say: Say, options: BuildOptions, text: str) -> None:
    if not options.quiet:
        say(ProgressMessage(stream=text))


def _add_labels(stage: Stage, labels: Mapping[str, str]) -> None:
    """Add a last step that sets the labels of the client, as Docker does."""
    if not labels:
        return
    pairs = sorted(labels.items())
    text = "LABEL " + " ".join(f"{json.dumps(name)}='{value}'" for name, value in pairs)
    quoted = [(_literal(name), _literal(value)) for name, value in pairs]
    stage.instructions.append(Label(pairs=quoted, place=Place(text=text)))


def _literal(text: str) -> str:
    """Return a word that expands to `text`."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _epoch(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 12):
        raise InvalidArgument(f"invalid {_EPOCH}: {text}")
    return int(text)
