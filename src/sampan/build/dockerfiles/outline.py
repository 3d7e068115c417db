"""What can be asked about a Dockerfile without building it: its targets, and what a target takes.

Source: docker documentation, `docker buildx build`, "--call"; buildkit
frontend/dockerfile/dockerfile2llb/outline.go, frontend/subrequests/outline, …/targets.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from sampan.build.dockerfiles.arguments import Arguments
from sampan.build.dockerfiles.dockerfile import Dockerfile
from sampan.build.dockerfiles.graph import Needed, Plan
from sampan.build.instructions.model import Arg, Place, Run
from sampan.build.instructions.mounts import read_mount


@dataclass(frozen=True, slots=True)
class Parameter:
    """An ARG, a secret or an SSH agent that a target takes."""

    name: str
    place: Place
    value: str = ""
    description: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A stage that can be built."""

    name: str  # "" if it has none
    base: str
    platform: str
    place: Place
    description: str
    is_default: bool


@dataclass(slots=True)
class Outline:
    """What one target takes."""

    name: str
    description: str
    arguments: list[Parameter] = field(default_factory=list)
    secrets: list[Parameter] = field(default_factory=list)
    ssh: list[Parameter] = field(default_factory=list)


def targets(dockerfile: Dockerfile) -> list[Target]:
    """Return all stages."""
    last = dockerfile.stages[-1]
    return [
        Target(
            stage.begin.name,
            stage.begin.image,
            stage.begin.platform,
            stage.begin.place,
            described(dockerfile, stage.begin.place, stage.begin.name),
            stage is last,
        )
        for stage in dockerfile.stages
    ]


def outline(dockerfile: Dockerfile, plan: Plan, arguments: Arguments) -> Outline:
    """Return what the target of a plan takes, and the stages that it is made of."""
    begin = plan.target.begin
    found = Outline(begin.name, described(dockerfile, begin.place, begin.name))
    reader = _Reader(dockerfile, arguments, found)
    for needed in plan.stages:
        reader.read(needed)
    for parameters in (found.arguments, found.secrets, found.ssh):
        parameters.sort(key=lambda one: one.place.first)
    return found


class _Reader:
    """Collects the parameters of stages, each once."""

    def __init__(self, dockerfile: Dockerfile, arguments: Arguments, found: Outline) -> None:
        self._dockerfile, self._arguments, self._found = dockerfile, arguments, found
        self._top = {name: it for it in dockerfile.arguments for name, _ in it.variables}
        self._seen: set[tuple[str, str]] = set()

    def read(self, needed: Needed) -> None:
        begin, shell = needed.stage.begin, self._arguments.shell
        variables = self._arguments.from_variables()
        for text in (begin.image, begin.platform):
            self._use(shell.expand(text, variables).used)
        known: dict[str, str] = {}
        for it in needed.stage.instructions:
            if isinstance(it, Arg):
                self._declare(it, known)
            elif isinstance(it, Run):
                self._mounts(it)

    def _use(self, names: set[str] | frozenset[str]) -> None:
        """Note arguments of the top of the file, and those that are in their defaults."""
        for name in sorted(names):
            it = self._top.get(name)
            if it is not None and self._is_new("argument", name):
                self._add(it, name, self._arguments.top.get(name, ""))
                default = dict(it.variables)[name] or ""
                self._use(self._arguments.shell.expand(default, self._arguments.top).used)

    def _declare(self, it: Arg, known: dict[str, str]) -> None:
        for name, default in it.variables:
            if default is None and name in self._top:
                self._use({name})
                known[name] = self._arguments.top.get(name, "")
                continue
            given = None if default is None else self._arguments.shell.word(default, known)
            value = self._arguments.declare(name, given) or ""
            known[name] = value
            if self._is_new("argument", name):
                self._add(it, name, value)

    def _add(self, it: Arg, name: str, value: str) -> None:
        text = described(self._dockerfile, it.place, name)
        self._found.arguments.append(Parameter(name, it.place, value, text))

    def _mounts(self, it: Run) -> None:
        for text in it.mounts:
            mount = read_mount(text)
            name = mount.id or posixpath.basename(mount.source or mount.target)
            if mount.type == "secret" and self._is_new("secret", name):
                secret = Parameter(name, it.place, required=mount.required)
                self._found.secrets.append(secret)
            elif mount.type == "ssh" and self._is_new("ssh", mount.id or "default"):
                agent = Parameter(mount.id or "default", it.place, required=mount.required)
                self._found.ssh.append(agent)

    def _is_new(self, kind: str, name: str) -> bool:
        new = (kind, name) not in self._seen
        self._seen.add((kind, name))
        return new


def described(dockerfile: Dockerfile, place: Place, name: str) -> str:
    """Return what a comment above an instruction says of a name: `# name what it is for`."""
    for comment in _comments(dockerfile, place) if name else ():
        if comment.startswith(f"{name} "):
            return comment.removeprefix(f"{name} ")
    return ""


def _comments(dockerfile: Dockerfile, place: Place) -> Sequence[str]:
    """Return the comments between the instruction before and this one; an empty one ends them."""
    source = dockerfile.source
    before = max((node.last for node in source.nodes if node.last < place.first), default=0)
    found: list[str] = []
    for line in source.lines[before : place.first - 1]:
        text = line.strip()
        if not text.startswith("#"):
            continue
        comment = text[1:].strip()
        found = [*found, comment] if comment else []
    return found
