"""What a handler of this face is: decode, call the engine, encode; no rules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sampan.api.buildkit.face import BuildKit
    from sampan.build.builder import Builder
    from sampan.engine.containers.containers import Containers
    from sampan.engine.containers.execs import Execs
    from sampan.engine.engine import Engine
    from sampan.engine.events import Events
    from sampan.engine.images.images import Images
    from sampan.engine.networks.networks import Networks
    from sampan.engine.networks.plugging import Plugging
    from sampan.engine.registries import RegistryQueries
    from sampan.engine.system import System
    from sampan.engine.volumes.volumes import Volumes
    from sampan.spec.build import GCPolicy

# (backend, request, **parameters of the path) -> Awaitable[Answer]
Handler = Callable[..., Any]


@dataclass(frozen=True)
class Backend:
    """The use cases behind the face: the engine, and what it says of itself."""

    engine: Engine
    system: System
    build_entitlements: Collection[str] = ("network.host", "device")
    build_policies: Sequence[GCPolicy] | None = None  # what is swept from the build cache

    @cached_property
    def builder(self) -> Builder:
        """Builds: loaded by the first, as nobody else needs their 4 MB."""
        from sampan.build.builder import Builder

        return Builder(
            self.engine.building,
            self.engine.build_database,
            self.build_entitlements,
            self.build_policies,
        )

    @property
    def has_builder(self) -> bool:
        """There were builds."""
        return "builder" in self.__dict__

    @cached_property
    def buildkit(self) -> BuildKit:
        """BuildKit's API."""
        from sampan.api.buildkit.face import BuildKit
        from sampan.engine.exporting import Exporting

        return BuildKit(self.builder, Exporting(self.engine.images))

    @property
    def containers(self) -> Containers:
        """Containers."""
        return self.engine.containers

    @property
    def execs(self) -> Execs:
        """Processes in containers."""
        return self.engine.execs

    @property
    def images(self) -> Images:
        """Local images."""
        return self.engine.images

    @property
    def networks(self) -> Networks:
        """Networks."""
        return self.engine.networks

    @property
    def volumes(self) -> Volumes:
        """Volumes."""
        return self.engine.volumes

    @property
    def plugging(self) -> Plugging:
        """Interfaces that users plug in."""
        return self.engine.plugging

    @property
    def registries(self) -> RegistryQueries:
        """Registries, as far as no image of our own is concerned."""
        return self.engine.registries

    @property
    def events(self) -> Events:
        """What happened."""
        return self.engine.events
