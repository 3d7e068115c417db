"""Instructions that change nothing but the configuration of an image.

Source: moby daemon/builder/dockerfile/dispatchers.go (rules, and the texts of the history).
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sampan.build.dockerfiles.shell import Expanded, Shell
from sampan.build.instructions import model
from sampan.build.state import State
from sampan.errors import InvalidArgument
from sampan.spec.image import ImageConfig

_PORT: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([a-zA-Z]+))?", re.ASCII)
# Source: moby sys/signal signal_linux.go
_SIGNALS: Final = frozenset(
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT"
    " STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX".split()
    + [f"RTMIN+{number}" for number in range(1, 16)]
    + [f"RTMAX-{number}" for number in range(1, 15)]
)


class Scope:
    """The words of one instruction, with the variables that are in effect before it."""

    def __init__(self, shell: Shell, state: State) -> None:
        self.shell, self.state = shell, state
        self.variables: Mapping[str, str] = {**state.arguments, **state.env}

    def word(self, text: str) -> str:
        """Return one word, expanded."""
        return self._expand(text).text

    def words(self, text: str) -> list[str]:
        """Return the words that a text becomes."""
        return self._expand(text).words

    def _expand(self, text: str) -> Expanded:
        return self.shell.expand(text, self.variables)


def change(scope: Scope, instruction: model.Instruction) -> tuple[ImageConfig, str]:
    """Return a configuration with the change made, and the text for the history."""
    draft = scope.state.draft()
    text = _CHANGES[type(instruction)](scope, draft, instruction)
    return draft, text


def _env(scope: Scope, draft: ImageConfig, it: model.Env) -> str:
    run = draft.run
    pairs = [(scope.word(name), scope.word(value)) for name, value in it.pairs]
    entries = list(run.env or [])
    for name, value in pairs:
        if not name:
            raise InvalidArgument("ENV names can not be blank")
        place = next((n for n, old in enumerate(entries) if old.split("=", 1)[0] == name), None)
        if place is None:
            entries.append(f"{name}={value}")
        else:
            entries[place] = f"{name}={value}"
    run.env = entries
    return "ENV " + " ".join(f"{name}={value}" for name, value in pairs)


def _label(scope: Scope, draft: ImageConfig, it: model.Label) -> str:
    pairs = [(scope.word(name), scope.word(value)) for name, value in it.pairs]
    if any(not name for name, _ in pairs):
        raise InvalidArgument("LABEL names can not be blank")
    draft.run.labels = {**(draft.run.labels or {}), **dict(pairs)}
    return "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)


def _maintainer(scope: Scope, draft: ImageConfig, it: model.Maintainer) -> str:
    draft.author = it.name
    return f"MAINTAINER {it.name}"


def _command(state: State, command: Sequence[str], *, shell_form: bool) -> list[str]:
    return [*state.shell, *command] if shell_form and command else list(command)


def _listed(command: Sequence[str]) -> str:
    """Return a command as Go prints a list of quoted words."""
    return f"[{' '.join(json.dumps(word, ensure_ascii=False) for word in command)}]"


def _cmd(scope: Scope, draft: ImageConfig, it: model.Command) -> str:
    draft.run.cmd = _command(scope.state, it.command, shell_form=it.shell_form)
    draft.run.args_escaped = False
    return f"CMD {_listed(draft.run.cmd)}"


def _entrypoint(scope: Scope, draft: ImageConfig, it: model.Entrypoint) -> str:
    draft.run.entrypoint = _command(scope.state, it.command, shell_form=it.shell_form)
    return f"ENTRYPOINT {_listed(draft.run.entrypoint)}"


def ports_of(word: str) -> list[str]:
    """Return the ports that a word of EXPOSE means: 80, 80/udp, 8000-8010."""
    match = _PORT.fullmatch(word.rpartition(":")[2])
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    protocol = (match[3] or "tcp").lower() if match else ""
    if match is None or not 0 < first <= last <= 65535:
        raise InvalidArgument(f"invalid containerPort: {word}")
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidArgument(f"invalid proto: {match[3]}")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _expose(scope: Scope, draft: ImageConfig, it: model.Expose) -> str:
    words = [word for text in it.ports for word in scope.words(text)]
    ports: dict[str, Any] = {port: {} for word in words for port in ports_of(word)}
    draft.run.exposed_ports = {**(draft.run.exposed_ports or {}), **ports}
    return "EXPOSE " + " ".join(sorted(words))


def _user(scope: Scope, draft: ImageConfig, it: model.User) -> str:
    draft.run.user = scope.word(it.user)
    return f"USER {draft.run.user}"


def _volume(scope: Scope, draft: ImageConfig, it: model.Volume) -> str:
    paths = [scope.word(path) for path in it.paths]
    if not all(path.strip() for path in paths):
        raise InvalidArgument("VOLUME specified can not be an empty string")
    draft.run.volumes = {**(draft.run.volumes or {}), **{path: {} for path in paths}}
    return f"VOLUME [{' '.join(paths)}]"


def is_signal(text: str) -> bool:
    """Tell whether a text is the number of a signal, or its name with or without SIG."""
    if text.isascii() and text.isdecimal():
        return len(text) < 3 and 0 < int(text) <= 64
    return text.upper().removeprefix("SIG") in _SIGNALS


def _stopsignal(scope: Scope, draft: ImageConfig, it: model.StopSignal) -> str:
    signal = scope.word(it.signal)
    if not is_signal(signal):
        raise InvalidArgument(f"Invalid signal: {signal}")
    draft.run.stop_signal = signal
    return f"STOPSIGNAL {signal}"


def _shell(scope: Scope, draft: ImageConfig, it: model.ShellCommand) -> str:
    draft.run.shell = list(it.command)
    return f"SHELL [{' '.join(it.command)}]"


def _healthcheck(scope: Scope, draft: ImageConfig, it: model.HealthCheck) -> str:
    draft.run.healthcheck = it.check
    return f"HEALTHCHECK {_listed(it.check.test or [])}"


def _onbuild(scope: Scope, draft: ImageConfig, it: model.OnBuild) -> str:
    draft.run.on_build = [*(draft.run.on_build or []), it.trigger]
    return f"ONBUILD {it.trigger}"


def working_dir(scope: Scope, path: str) -> str:
    """Return the folder that WORKDIR means: an absolute path."""
    wanted = scope.word(path)
    if not wanted:
        raise InvalidArgument("WORKDIR requires exactly one argument")
    whole = posixpath.join("/", scope.state.run.working_dir, wanted)
    return "/" + posixpath.normpath(whole).lstrip("/")


_CHANGES: Final[Mapping[type[model.Instruction], Callable[[Scope, ImageConfig, Any], str]]] = {
    model.Command: _cmd,
    model.Entrypoint: _entrypoint,
    model.Env: _env,
    model.Expose: _expose,
    model.HealthCheck: _healthcheck,
    model.Label: _label,
    model.Maintainer: _maintainer,
    model.OnBuild: _onbuild,
    model.ShellCommand: _shell,
    model.StopSignal: _stopsignal,
    model.User: _user,
    model.Volume: _volume,
}
