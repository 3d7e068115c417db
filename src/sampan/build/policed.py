"""A worker that fetches only what the client of a build allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from sampan.build.policing import IMAGE, Facts, Policy, Source, check, commit, image, irreplaceable
from sampan.build.worker import Clients, Say, Worker
from sampan.spec.build import BaseImage, Repository
from sampan.spec.platform import Platform

T = TypeVar("T")


class Policed:
    """A worker that fetches only what a policy allows; all else is the worker's own."""

    def __init__(self, worker: Worker, policy: Policy) -> None:
        self._worker, self._policy = worker, policy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    async def base(
        self, name: str, platform: Platform | None, *, pull: bool, clients: Clients, say: Say
    ) -> BaseImage:
        """Return an image, or that which the policy has put in its place; see `Worker.base`."""
        fetch = partial(self._worker.base, platform=platform, clients=clients, say=say)
        found: list[BaseImage] = []

        async def ask() -> Facts:
            found[:] = [await fetch(name, pull=pull)]
            return Facts(found[0].digest, await self._worker.config(found[0].id))

        source = image(name)
        allowed = await self._policy.judge(source, platform or Platform.host(), ask)
        if allowed == source:
            return found[0] if found else await fetch(name, pull=pull)
        if not allowed.identifier.startswith(IMAGE):
            raise irreplaceable(source, allowed)
        return await fetch(allowed.identifier.removeprefix(IMAGE), pull=pull)

    async def download(self, url: str, read: Callable[[int], T]) -> T:
        """Read a web page; see `Worker.download`."""
        await check(self._policy, Source(url))
        return await self._worker.download(url, read)

    async def repository(self, repository: Repository, read: Callable[[int], T]) -> T:
        """Read a commit; see `Worker.repository`."""
        await check(self._policy, commit(repository))
        return await self._worker.repository(repository, read)


def policed(worker: Worker, policy: Policy | None) -> Worker:
    """Return a worker that asks the policy, if there is one."""
    return worker if policy is None else cast("Worker", Policed(worker, policy))
