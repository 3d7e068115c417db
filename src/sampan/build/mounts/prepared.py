"""The mounts of one RUN, before it runs."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from sampan.errors import InvalidArgument
from sampan.spec.build import RunStep


@dataclass(slots=True)
class Prepared:
    """The mounts of one step: what they are for its key, and how they are made."""

    keys: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    agents: int = 0
    makers: list[Callable[[AsyncExitStack, RunStep], Awaitable[None]]] = field(default_factory=list)

    def check(self) -> None:
        """Raise InvalidArgument for places that nothing can be mounted on."""
        for target, count in Counter(self.targets).items():
            if target == "/":
                raise InvalidArgument(f'invalid mount target "{target}"')
            if count > 1:
                raise InvalidArgument(f"Duplicate mount point: {target}")

    async def make(self, stack: AsyncExitStack, step: RunStep) -> None:
        """Add them to a step; `stack` takes back what they need."""
        for maker in self.makers:
            await maker(stack, step)


def place_of(working_dir: str, target: str) -> str:
    """Return where something is mounted, as an absolute path without detours."""
    path = posixpath.normpath(posixpath.join("/", working_dir, target))
    return "/" + path.lstrip("/")  # normpath keeps two leading slashes
