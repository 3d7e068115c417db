"""What instructions use that nobody has set: variables, and the folder that a WORKDIR begins from.

Source: buildkit frontend/dockerfile/dockerfile2llb/convert.go (which words are expanded, and with
what), validations.go (what is told).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sampan.build.dockerfiles.arguments import Arguments
from sampan.build.dockerfiles.dockerfile import Dockerfile, Stage
from sampan.build.dockerfiles.shell import Shell
from sampan.build.instructions import model
from sampan.build.instructions.suggesting import hint
from sampan.errors import InvalidArgument

Environments = Mapping[int, Mapping[str, str] | None]  # by the number of a stage
Report = Callable[[str, str, model.Place], None]  # rule, message


@dataclass(slots=True)
class _Scope:
    """What is known at one place of a stage; no `environment` is that of an unknown image."""

    environment: dict[str, str] | None
    arguments: dict[str, str]
    declared: set[str]
    has_folder: bool = False


def look(
    dockerfile: Dockerfile,
    stages: Sequence[Stage],
    arguments: Arguments,
    environments: Environments,
    report: Report,
) -> None:
    """Report what the instructions of stages use.

    `environments` are those of the images that stages begin with; None is not known.
    """
    shell = Shell(dockerfile.source.escape)
    ends: dict[int, _Scope] = {}
    for stage in stages:
        scope = _begin(dockerfile, stage, ends, environments)
        for it in stage.instructions:
            try:
                _Looking(shell, scope, arguments, report).at(it)
            except InvalidArgument:
                break  # it fails when it is built, and says why
        ends[stage.number] = scope


def _begin(
    dockerfile: Dockerfile, stage: Stage, ends: Mapping[int, _Scope], environments: Environments
) -> _Scope:
    below = dockerfile.stage(stage.begin.image, before=stage.number)
    end = ends.get(below.number) if below is not None else None
    if end is not None:
        known = None if end.environment is None else dict(end.environment)
        return _Scope(known, {}, set(), end.has_folder)
    found = environments.get(stage.number)
    return _Scope(None if found is None else dict(found), {}, set())


class _Looking:
    def __init__(self, shell: Shell, scope: _Scope, arguments: Arguments, report: Report) -> None:
        self._shell, self._scope = shell, scope
        self._arguments, self._report = arguments, report

    def at(self, it: model.Instruction) -> None:
        """Look at one instruction, and do to the variables what it does."""
        if isinstance(it, model.Arg):
            for name, default in it.variables:
                self._declare(it, name, default)
            return
        done = {word: self._word(it, word) for word in _words(it)}
        if isinstance(it, model.Env) and self._scope.environment is not None:
            pairs = [(done[name], done[value]) for name, value in it.pairs]
            self._scope.environment |= dict(pairs)
        if isinstance(it, model.Workdir):
            path = done[it.path]
            if not self._scope.has_folder and not path.startswith("/"):
                message = f'Relative workdir "{path}" can have unexpected results if the base image'
                self._report("WorkdirRelativePath", f"{message} changes", it.place)
            self._scope.has_folder = True
        if isinstance(it, model.Copy) and not it.parents:
            for one in it.heredocs:
                if one.expand:
                    self._word(it, one.content, raw=True)

    def _declare(self, it: model.Arg, name: str, default: str | None) -> None:
        given = None if default is None else self._word(it, default)
        value = self._arguments.declare(name, given)
        self._scope.declared.add(name)
        if value is not None:
            self._scope.arguments[name] = value

    def _word(self, it: model.Instruction, word: str, *, raw: bool = False) -> str:
        scope = self._scope
        known = {**scope.arguments, **(scope.environment or {})}
        shell = Shell(self._shell.escape, raw_quotes=True, raw_escapes=True) if raw else self._shell
        found = shell.expand(word, known)
        if scope.environment is not None:
            for name in sorted(found.unset - scope.declared):
                meant = hint(name, known, sign="$", exact_case=True)
                message = f"Usage of undefined variable '${name}'{meant}"
                self._report("UndefinedVar", message, it.place)
        return found.text


def _words(it: model.Instruction) -> Iterator[str]:
    """Yield the words in which BuildKit looks for variables that are not set."""
    match it:
        case model.Env() | model.Label():
            for pair in it.pairs:
                yield from pair
        case model.Copy():
            yield from (*it.sources, it.destination, it.chown, it.chmod, *it.exclude)
        case model.User():
            yield it.user
        case model.Volume():
            yield from it.paths
        case model.Workdir():
            yield it.path
        case model.StopSignal():
            yield it.signal
