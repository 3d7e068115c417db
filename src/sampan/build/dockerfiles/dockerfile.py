"""A Dockerfile as its stages.

Source: moby buildkit frontend/dockerfile/instructions/parse.go, dockerfile2llb (rules).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sampan.build.dockerfiles.faults import fault_of, mark
from sampan.build.dockerfiles.source import Source, read_source
from sampan.build.instructions.model import Arg, From, Instruction, Place
from sampan.build.instructions.parsing import parse
from sampan.errors import InvalidArgument

MAX_INSTRUCTIONS: Final = 10_000


@dataclass(slots=True)
class Stage:
    """FROM and what follows it."""

    begin: From
    number: int
    instructions: list[Instruction] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What --target calls it: its name, or its number."""
        return self.begin.name or str(self.number)


@dataclass(slots=True)
class Dockerfile:
    """All stages, and the arguments before the first one."""

    source: Source
    arguments: list[Arg]
    stages: list[Stage]

    def stage(self, name: str, before: int | None = None) -> Stage | None:
        """Return the stage that `name` means, a name or a number; with `before` an earlier one.

        Of several with one name the last is meant.
        """
        known = self.stages if before is None else self.stages[:before]
        for stage in reversed(known):
            if stage.begin.name and stage.begin.name == name.lower():
                return stage
        if name.isascii() and name.isdecimal() and len(name) < 6 and int(name) < len(known):
            return known[int(name)]
        return None

    def target(self, name: str) -> Stage:
        """Return the stage to build: the last one, unless `name` is given."""
        if not name:
            return self.stages[-1]
        if stage := self.stage(name):
            return stage
        raise InvalidArgument(f"target stage {name} could not be found")

    def located(self, error: Exception, place: Place) -> InvalidArgument:
        """Return an error with its place in the file."""
        if "\n---" in str(error) or not place.first:
            return mark(InvalidArgument(str(error)), fault_of(error))
        return self.source.located(error, place.first, place.last)


def parse_dockerfile(content: bytes, name: str = "Dockerfile") -> Dockerfile:
    """Return the stages of a Dockerfile. Raises InvalidArgument, with the place of the fault."""
    source = read_source(content, name)
    if len(source.nodes) > MAX_INSTRUCTIONS:
        raise InvalidArgument(f"{name} has more than {MAX_INSTRUCTIONS} instructions")
    dockerfile = Dockerfile(source, [], [])
    for node in source.nodes:
        instruction = parse(source, node)
        if isinstance(instruction, From):
            dockerfile.stages.append(Stage(instruction, len(dockerfile.stages)))
        elif dockerfile.stages:
            dockerfile.stages[-1].instructions.append(instruction)
        elif isinstance(instruction, Arg):
            dockerfile.arguments.append(instruction)
        else:
            error = InvalidArgument("no build stage in current context")
            raise source.located(error, node.first, node.last)
    if not dockerfile.stages:
        raise InvalidArgument("dockerfile contains no stages to build")
    return dockerfile


def parse_triggers(triggers: Sequence[str]) -> list[Instruction]:
    """Return the instructions that a base image has for the images that are built on it."""
    found: list[Instruction] = []
    for trigger in triggers:
        source = read_source(trigger.encode(), "ONBUILD")
        for node in source.nodes:
            if node.name in ("ONBUILD", "FROM", "MAINTAINER"):
                raise InvalidArgument(f"{node.name} isn't allowed as an ONBUILD trigger")
            found.append(parse(source, node))
    return found
