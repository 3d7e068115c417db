"""The folders that the commands of builds share: volumes that live as long as their records."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sampan.engine.building.steps import Steps
from sampan.engine.volumes.volumes import Volumes
from sampan.errors import Conflict
from sampan.spec.build import MountedCache, RunStep
from sampan.spec.docker.config import Mount
from sampan.spec.platform import Platform


class MountedCaches:
    """See build.worker.MountedCaches."""

    def __init__(self, volumes: Volumes, steps: Steps) -> None:
        self._volumes, self._steps = volumes, steps

    async def found(self, names: Sequence[str]) -> dict[str, MountedCache]:
        """Return those that are there."""
        sizes = await self._volumes.sizes(names)
        return {
            name: MountedCache(size=size, in_use=bool(self._volumes.users(name)))
            for name, size in sizes.items()
        }

    def has(self, name: str) -> bool:
        """Tell whether one is there."""
        return self._volumes.has(name)

    async def fill(self, mount: Mount, write: Callable[[int], None]) -> None:
        """Make one, with what is in an archive below the name of the mount's target."""
        host = Platform.host()
        step = RunStep(
            chain=None, architecture=host.architecture, os=host.os, command=["-"], env=[],
            mounts=[mount],
        )  # fmt: skip
        await self._steps.put(step, write)

    async def remove(self, name: str) -> bool:
        """Remove one; False if a container has it."""
        try:
            await self._volumes.remove(name, force=True)
        except Conflict:
            return False
        return True
