"""How steps are told in the history of an image: by Docker's classic builder, and by BuildKit.

Source: moby daemon/builder/dockerfile/dispatchers.go; buildkit
frontend/dockerfile/dockerfile2llb/convert.go, convert_copy.go, convert_expose.go (commitToHistory).
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Final, Protocol

from sampan.build.instructions import model
from sampan.build.instructions.metadata import Scope, ports_of
from sampan.build.instructions.run import Command
from sampan.build.instructions.wanted import Wanted
from sampan.build.state import SHELL, State
from sampan.spec.durations import format_duration
from sampan.spec.image import Healthcheck, ImageConfig

_OF_BUILDKIT: Final = " # buildkit"
Values = Sequence[tuple[str, str | None, str | None]]  # names, defaults and values of an ARG


class Wording(Protocol):
    """The words of one builder. "" leaves no entry in the history."""

    comment: str
    has_author: bool  # of entries

    def change(self, scope: Scope, it: model.Instruction, draft: ImageConfig, text: str) -> str:
        """Return how a change of the configuration is told; `text` is the instruction itself."""

    def argument(self, config: ImageConfig, values: Values) -> str:
        """Return how an ARG is told."""

    def run(self, state: State, command: Command) -> str:
        """Return how a RUN is told."""

    def copy(self, config: ImageConfig, wanted: Wanted) -> str:
        """Return how a COPY or ADD is told."""

    def workdir(self, config: ImageConfig, path: str) -> str:
        """Return how a WORKDIR is told."""


class ClassicWording:
    """Docker's classic builder: what no shell has run looks as if it did nothing."""

    comment = ""
    has_author = True

    def change(self, scope: Scope, it: model.Instruction, draft: ImageConfig, text: str) -> str:
        """Return how a change of the configuration is told."""
        return f"{_shell(draft)} #(nop)  {text}"

    def argument(self, config: ImageConfig, values: Values) -> str:
        """Return how an ARG is told: with its default."""
        shown = [name if given is None else f"{name}={given}" for name, given, _ in values]
        return f"{_shell(config)} #(nop)  ARG {' '.join(shown)}"

    def run(self, state: State, command: Command) -> str:
        """Return the words, with the arguments in front as `|2 a=1 b=2`."""
        given = [f"{name}={value}" for name, value in sorted(command.arguments.items())]
        return " ".join([*_counted(given), *command.words])

    def copy(self, config: ImageConfig, wanted: Wanted) -> str:
        """Return how a COPY or ADD is told."""
        return f"{_shell(config)} #(nop) {wanted.text} in {wanted.destination} "

    def workdir(self, config: ImageConfig, path: str) -> str:
        """Return how a WORKDIR is told."""
        return f"{_shell(config)} #(nop) WORKDIR {posixpath.normpath(path)}"


class BuildKitWording:
    """BuildKit: instructions as they are, those that change files with its name behind them."""

    comment = "buildkit.dockerfile.v0"
    has_author = False

    def change(self, scope: Scope, it: model.Instruction, draft: ImageConfig, text: str) -> str:
        """Return how a change of the configuration is told."""
        if isinstance(it, model.OnBuild) or (isinstance(it, model.Label) and it.of_client):
            return ""
        if isinstance(it, model.Expose):
            words = [word for one in it.ports for word in scope.words(one)]
            return f"EXPOSE [{' '.join(port for word in words for port in ports_of(word))}]"
        if isinstance(it, model.HealthCheck):
            return f"HEALTHCHECK {_struct(it.check)}"
        return text

    def argument(self, config: ImageConfig, values: Values) -> str:
        """Return how an ARG is told: with its value."""
        shown = [name if value is None else f"{name}={value}" for name, _, value in values]
        return f"ARG {' '.join(shown)}"

    def run(self, state: State, command: Command) -> str:
        """Return the words, with all arguments in front that were declared."""
        known = {**state.arguments, **state.env}
        given = [f"{name}={known.get(name, '')}" for name in state.declared]
        return " ".join(["RUN", *_counted(given), *command.words]) + _OF_BUILDKIT

    def copy(self, config: ImageConfig, wanted: Wanted) -> str:
        """Return how a COPY or ADD is told."""
        flags = ["--parents"] if wanted.instruction.parents else []
        flags += [f"--chown={wanted.chown}"] if wanted.chown else []
        flags += [f"--chmod={wanted.chmod}"] if wanted.chmod else []
        documents = [f"<<{name}" for name, _ in wanted.documents]
        words = [wanted.name, *flags, *wanted.shown, *documents, wanted.written]
        return " ".join(words) + _OF_BUILDKIT

    def workdir(self, config: ImageConfig, path: str) -> str:
        """Return how a WORKDIR is told."""
        return f"WORKDIR {posixpath.normpath(path)}"


CLASSIC: Final[Wording] = ClassicWording()
BUILDKIT: Final[Wording] = BuildKitWording()


def _shell(config: ImageConfig) -> str:
    """Return what the history of the classic builder shows before what no shell has run."""
    return " ".join(config.run.shell or SHELL)


def _counted(given: Sequence[str]) -> list[str]:
    return [f"|{len(given)}", *given] if given else []


def _struct(check: Healthcheck) -> str:
    """Return a health check as Go prints it."""
    times = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }
    shown = " ".join(f"{name}:{format_duration(value)}" for name, value in times.items())
    return f"{{Test:[{' '.join(check.test or [])}] {shown} Retries:{check.retries}}}"
