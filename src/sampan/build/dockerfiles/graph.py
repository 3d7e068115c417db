"""Which stages a target needs, and in what order they can be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sampan.build.dockerfiles.dockerfile import Dockerfile, Stage
from sampan.build.dockerfiles.shell import Shell
from sampan.build.instructions.model import Copy, Instruction, Run
from sampan.build.instructions.mounts import origin_of
from sampan.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Needed:
    """A stage that has to be built."""

    stage: Stage
    image: str  # what FROM says, expanded
    platform: str  # of FROM, expanded
    below: Stage | None  # the stage that it begins with
    first: int  # number of its first step, from 1


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages to build, as they stand in the file, and how many steps they have."""

    stages: list[Needed]
    target: Stage
    steps: int

    @property
    def needs_context(self) -> bool:
        """Tell whether a copy surely takes files of the context; all else may take some, too."""
        return any(_takes_context(it) for one in self.stages for it in one.stage.instructions)

    def find(self, stage: Stage) -> Needed | None:
        """Return a stage of the plan."""
        return next((one for one in self.stages if one.stage is stage), None)


def plan(dockerfile: Dockerfile, target: Stage, variables: Mapping[str, str]) -> Plan:
    """Find what a target needs; `variables` may stand in FROM. Raises InvalidArgument."""
    shell = Shell(dockerfile.source.escape)
    needed: dict[int, tuple[str, str, Stage | None]] = {}
    waiting = [target]
    while waiting:
        stage = waiting.pop()
        if stage.number in needed:
            continue
        begin = stage.begin
        try:
            image = shell.word(begin.image, variables)
            platform = shell.word(begin.platform, variables)
            if not image:
                raise InvalidArgument(f"base name ({begin.image}) should not be blank")
            below = dockerfile.stage(image, before=stage.number)
            if below is not None and image.isdecimal():
                below = None  # a number is no name of a stage here
        except InvalidArgument as error:
            raise dockerfile.located(error, begin.place) from error
        needed[stage.number] = image, platform, below
        waiting += [below] if below else []
        waiting += _copied_from(dockerfile, stage)
    first, stages = 1 + len(dockerfile.arguments), []
    for number in sorted(needed):
        stage = dockerfile.stages[number]
        stages.append(Needed(stage, *needed[number], first))
        first += 1 + len(stage.instructions)
    return Plan(stages, target, first - 1)


def _takes_context(it: Instruction) -> bool:
    if not isinstance(it, Copy) or it.origin:
        return False
    return any("://" not in source and "$" not in source for source in it.sources)


def _copied_from(dockerfile: Dockerfile, stage: Stage) -> list[Stage]:
    found = []
    for it in stage.instructions:
        names = []
        if isinstance(it, Copy) and it.origin:
            names = [it.origin]
        elif isinstance(it, Run):
            try:
                names = [name for name in map(origin_of, it.mounts) if name]
            except InvalidArgument as error:
                raise dockerfile.located(error, it.place) from error
        for name in names:
            if (other := stage_from(dockerfile, stage, name)) is not None:
                found.append(other)
            elif dockerfile.stage(name) is not None:
                circle = InvalidArgument(f"circular dependency detected on stage: {stage.name}")
                raise dockerfile.located(circle, it.place)
    return found


def stage_from(dockerfile: Dockerfile, stage: Stage, name: str) -> Stage | None:
    """Return the earlier stage that `--from` means; None if it means an image."""
    return dockerfile.stage(name, before=stage.number)
