"""What a build starts from and what it has made, before anybody has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sampan.build.attesting.materials import Materials
from sampan.build.dockerfiles.linting import Violation
from sampan.build.remotecache.records import Step
from sampan.build.state import State
from sampan.http.urls import redacted_text
from sampan.spec.platform import Platform


@dataclass(frozen=True, slots=True)
class Recipe:
    """The text of a Dockerfile, and what it is called."""

    content: bytes
    name: str
    ignored: Sequence[str] = ()  # what its build context is without

    @property
    def shown(self) -> bytes:
        """The text as others may see it: without the passwords of addresses, line for line."""
        text = self.content.decode("utf-8", "surrogateescape")
        return redacted_text(text).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Built:
    """What a build has made, before anybody has it."""

    state: State
    unused: Sequence[str] = ()  # build arguments that no ARG takes
    epoch: int | None = None  # SOURCE_DATE_EPOCH, in seconds
    violations: Sequence[Violation] = ()  # of BuildKit's checks
    platform: Platform = field(default_factory=Platform.host)  # that it is for
    steps: Mapping[str, Step] = field(default_factory=dict)  # by the keys of records
    inline: bool = False  # its configuration tells of the steps
    materials: Materials = field(default_factory=Materials)
    recipe: Recipe | None = None
    extras: Mapping[str, Sequence[str]] = field(default_factory=dict)  # layers to scan, too
