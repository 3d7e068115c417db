"""What a step begins with, and what it makes: layers and a configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from sampan.errors import InvalidArgument
from sampan.spec.build import BaseImage
from sampan.spec.digest import Digest, chain_id, digest_of
from sampan.spec.image import History, ImageConfig, RootFS, RunConfig
from sampan.spec.platform import Platform

SHELL = ["/bin/sh", "-c"]
_LARGEST: Final = 16 << 20  # bytes of a configuration: every step writes it
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class State:
    """An image that has no name yet. Nobody changes its configuration: `changed` makes another."""

    config: ImageConfig
    image: str = ""  # id of the stored image that this is, as it is
    arguments: Mapping[str, str] = field(default_factory=dict)  # ARGs in effect that have a value
    declared: Sequence[str] = ()  # names of all ARGs in effect, as they were declared
    command_set: bool = False  # CMD stands in this Dockerfile
    base_layers: int = 0  # of its layers, those of the image that it was begun with
    base_steps: int = 0  # of its history

    @classmethod
    def empty(cls, platform: Platform | None) -> State:
        """Return what `scratch` is."""
        platform = platform or Platform.host()
        config = ImageConfig(
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            rootfs=RootFS(),
        )
        return cls(config)

    @classmethod
    def of(cls, base: BaseImage) -> State:
        """Return what begins with an image."""
        config = base.config
        layers, steps = len(config.diff_ids), len(config.history or [])
        return cls(config, base.id, base_layers=layers, base_steps=steps)

    @property
    def chain(self) -> Digest | None:
        """The layers that files are in."""
        return chain_id(self.config.diff_ids)

    @property
    def run(self) -> RunConfig:
        """The configuration of containers."""
        return self.config.run

    @property
    def env(self) -> dict[str, str]:
        """The variables of the image."""
        return dict(entry.partition("=")[::2] for entry in with_path(self.run.env))

    @property
    def shell(self) -> list[str]:
        """What the shell forms of instructions begin with."""
        return self.run.shell or SHELL

    def draft(self) -> ImageConfig:
        """Return a copy of the configuration whose fields may be given other values.

        Lists and documents in it are those of the state: a change makes new ones.
        """
        draft = copy.copy(self.config)
        draft.config = copy.copy(draft.config or RunConfig())
        draft.config.env = with_path(draft.config.env)
        draft.rootfs = copy.copy(draft.rootfs or RootFS())
        return draft

    def encoded(self) -> bytes:
        """Return the configuration as the bytes whose digest is the image's id."""
        encoded = msgspec.json.encode(self.config, order="sorted")
        if len(encoded) > _LARGEST:
            raise InvalidArgument(f"the image's configuration is larger than {_LARGEST} bytes")
        return encoded

    def id(self) -> Digest:
        """Return the id that the image has, or would have."""
        return Digest(self.image) if self.image else digest_of(self.encoded())

    def changed(self, config: ImageConfig) -> State:
        """Return the state with another configuration."""
        return replace(self, config=config, image="")


def with_path(env: list[str] | None) -> list[str]:
    """Return variables with the PATH that containers have anyway (moby setDefaultPath)."""
    entries = list(env or [])
    if any(entry.split("=", 1)[0] == "PATH" for entry in entries):
        return entries
    return [*entries, f"PATH={PATH}"]


def extended(draft: ImageConfig, step: History, diff_id: str) -> ImageConfig:
    """Add one step, and its layer if it has one, to a configuration; return it.

    A step that is told in no words is none in the history.
    """
    if draft.rootfs is None:
        draft.rootfs = RootFS()
    if diff_id:
        draft.rootfs.diff_ids = [*draft.diff_ids, diff_id]
    step.empty_layer = not diff_id
    if step.created_by:
        draft.history = [*(draft.history or []), step]
    draft.created = step.created
    return draft
