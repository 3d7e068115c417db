"""What came into a build from outside, as it is told in its provenance."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sampan.build.instructions.model import Mount
from sampan.build.worker import Clients, Say, Worker
from sampan.errors import InvalidArgument
from sampan.spec.build import BaseImage, Repository
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference

T = TypeVar("T")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(slots=True)
class Materials:
    """Images, pages and repositories with their digests, "" if nobody knows them."""

    images: dict[tuple[str, Platform], str] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    repositories: dict[str, str] = field(default_factory=dict)  # the commits
    secrets: dict[str, bool] = field(default_factory=dict)  # ids; whether they are required
    agents: dict[str, bool] = field(default_factory=dict)
    network: bool = False  # commands could use one

    def note_mounts(self, mounts: Sequence[Mount]) -> None:
        """Remember what the client lends."""
        for mount in mounts:
            lent = {"secret": self.secrets, "ssh": self.agents}.get(mount.type)
            if lent is not None:
                name = mount.id or (mount.source if mount.type == "secret" else "default")
                lent[name] = lent.get(name, False) or mount.required

    @property
    def complete(self) -> bool:
        """All digests are known."""
        return all([*self.images.values(), *self.pages.values(), *self.repositories.values()])


class Witness:
    """A worker of a build that remembers what it has fetched; all else is the worker's own."""

    def __init__(self, worker: Worker, materials: Materials) -> None:
        self._worker, self._materials = worker, materials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    async def base(
        self, name: str, platform: Platform | None, *, pull: bool, clients: Clients, say: Say
    ) -> BaseImage:
        """Return an image; see `Worker.base`."""
        base = await self._worker.base(name, platform, pull=pull, clients=clients, say=say)
        try:
            shown = str(Reference.parse(name))
        except InvalidArgument:
            shown = base.id
        self._materials.images[shown, base.config.platform] = base.digest
        return base

    async def repository(self, repository: Repository, read: Callable[[int], T]) -> T:
        """Read a commit; see `Worker.repository`."""
        commit = repository.ref if _COMMIT.fullmatch(repository.ref) else ""
        self._materials.repositories[repository.url] = commit
        return await self._worker.repository(repository, read)
