"""Dockerfile instructions that change an image's configuration: `import --change`, `commit -c`.

Source: moby daemon/builder/dockerfile (BuildFromConfig, dispatchers.go), buildkit
frontend/dockerfile (parser, instructions, shell/lex.go).
"""

from __future__ import annotations

import copy
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from sampan.errors import InvalidArgument
from sampan.spec.durations import parse_duration
from sampan.spec.image import Healthcheck, RunConfig

_PORT: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_RETRIES: Final = re.compile(r"[0-9]{1,10}")
_VARIABLE: Final = re.compile(
    r"\\(.)|\$(?:(\w+)|\{(\w+)(?:(:?[-+])((?:[^{}\\]|\\.)*))?\})", re.ASCII
)
_SHELL: Final = ["/bin/sh", "-c"]
_SIGNAL: Final = re.compile(r"(?:SIG)?[A-Z][A-Z0-9+-]*|\d{1,2}", re.IGNORECASE)


def apply_changes(config: RunConfig, changes: Sequence[str]) -> RunConfig:
    """Return a copy of `config` with the instructions applied in order.

    Raises InvalidArgument for what is no instruction, or none that changes a configuration.
    """
    config = copy.deepcopy(config)
    state = _State(config)
    for line in _lines(changes):
        name, _, rest = line.partition(" ")
        apply = _INSTRUCTIONS.get(name.upper())
        if apply is None:
            raise InvalidArgument(f"{name} is not a valid change command")
        apply(state, rest.strip())
    return config


class _State:
    """The configuration while it changes."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.command_set = False

    def expand(self, text: str) -> str:
        """Replace $name, ${name}, ${name:-word} and ${name:+word}."""
        values = dict(entry.partition("=")[::2] for entry in self.config.env or [])
        return _VARIABLE.sub(lambda match: _expanded(match, values), text)


def _expanded(match: re.Match[str], values: Mapping[str, str]) -> str:
    if match[1] is not None:
        return match[1] if match[1] == "$" else match[0]
    name, operator, word = match[2] or match[3], match[4], match[5]
    value = values.get(name)
    if not operator:
        return value or ""
    given = bool(value) if operator.startswith(":") else value is not None
    if operator.endswith("-"):
        return (value or "") if given else word
    return word if given else ""


def _lines(changes: Sequence[str]) -> list[str]:
    """Return the instructions; a backslash at the end of a line joins the next one."""
    lines: list[str] = []
    pending = ""
    for line in "\n".join(changes).split("\n"):
        if line.lstrip().startswith("#"):
            continue
        if line.rstrip().endswith("\\"):
            pending += line.rstrip()[:-1]
            continue
        whole, pending = (pending + line).strip().replace("\t", " "), ""
        if whole:
            lines.append(whole)
    return [*lines, pending.strip()] if pending.strip() else lines


def _json_words(text: str) -> list[str] | None:
    """Return the exec form, a JSON list of strings; None if `text` is in the shell form."""
    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return None


def _words(text: str) -> list[str]:
    """Split at blanks; quotes and backslashes keep blanks, and stay in the words."""
    words, word, quote, escaped = [], "", "", False
    for letter in text:
        if escaped:
            word, escaped = word + letter, False
        elif letter == "\\":
            word, escaped = word + letter, True
        elif quote:
            word += letter
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            word, quote = word + letter, letter
        elif letter.isspace():
            if word:
                words.append(word)
            word = ""
        else:
            word += letter
    return [*words, word] if word else words


def _unquoted(state: _State, text: str) -> str:
    """Take quotes and backslashes away as a shell does, and replace variables outside of '…'."""
    result, plain, quote = "", "", ""
    at = 0
    while at < len(text):
        letter = text[at]
        if letter == "\\" and quote != "'" and at + 1 < len(text):
            following = text[at + 1]
            keep = quote == '"' and following not in '"\\$'
            result += state.expand(plain) + ("\\" if keep else "") + following
            plain, at = "", at + 2
            continue
        if letter in "'\"" and (not quote or quote == letter):
            result += plain if quote == "'" else state.expand(plain)
            plain, quote = "", "" if quote else letter
        else:
            plain += letter
        at += 1
    return result + (plain if quote == "'" else state.expand(plain))


def _pairs(state: _State, name: str, text: str) -> list[tuple[str, str]]:
    """Return NAME=VALUE pairs; the old form `NAME the rest` is one pair."""
    if not text:
        raise InvalidArgument(f"{name} requires at least one argument")
    words = _words(text)
    if "=" not in words[0]:
        key, _, value = text.partition(" ")
        if not value.strip():
            raise InvalidArgument(f"{name} must have two arguments")
        return [(_unquoted(state, key), _unquoted(state, value.strip()))]
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidArgument(
                f"Syntax error - can't find = in {word!r}. Must be of the form: name=value"
            )
        if not key:
            raise InvalidArgument(f"{name} names can not be blank")
        pairs.append((_unquoted(state, key), _unquoted(state, value)))
    return pairs


# --- instructions --------------------------------------------------------------------------


def _env(state: _State, text: str) -> None:
    variables = list(state.config.env or [])
    for name, value in _pairs(state, "ENV", text):
        entry = f"{name}={value}"
        for place, old in enumerate(variables):
            if old.partition("=")[0] == name:
                variables[place] = entry
                break
        else:
            variables.append(entry)
    state.config.env = variables


def _label(state: _State, text: str) -> None:
    state.config.labels = {**(state.config.labels or {}), **dict(_pairs(state, "LABEL", text))}


def _command(state: _State, text: str) -> list[str]:
    words = _json_words(text)
    if words is not None:
        return words
    return [*(state.config.shell or _SHELL), text] if text else []


def _cmd(state: _State, text: str) -> None:
    state.config.cmd = _command(state, text)
    state.command_set = bool(state.config.cmd)


def _entrypoint(state: _State, text: str) -> None:
    state.config.entrypoint = _command(state, text)
    if not state.command_set:
        state.config.cmd = None


def _expose(state: _State, text: str) -> None:
    if not text:
        raise InvalidArgument("EXPOSE requires at least one argument")
    ports = dict(state.config.exposed_ports or {})
    for word in state.expand(text).split():
        match = _PORT.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not 0 < first <= last <= 65535:
            raise InvalidArgument(f"invalid containerPort: {word}")
        protocol = (match[3] or "tcp").lower()
        ports |= {f"{port}/{protocol}": {} for port in range(first, last + 1)}
    state.config.exposed_ports = ports


def _user(state: _State, text: str) -> None:
    if len(_words(text)) != 1:
        raise InvalidArgument("USER requires exactly one argument")
    state.config.user = _unquoted(state, text)


def _volume(state: _State, text: str) -> None:
    if not text:
        raise InvalidArgument("VOLUME requires at least one argument")
    paths = _json_words(text)
    if paths is None:
        paths = _words(text)
    volumes = dict(state.config.volumes or {})
    for path in paths:
        if not (whole := _unquoted(state, path).strip()):
            raise InvalidArgument("VOLUME specified can not be an empty string")
        volumes[whole] = {}
    state.config.volumes = volumes


def _workdir(state: _State, text: str) -> None:
    if not text:
        raise InvalidArgument("WORKDIR requires exactly one argument")
    whole = posixpath.join("/", state.config.working_dir, _unquoted(state, text))
    state.config.working_dir = "/" + posixpath.normpath(whole).lstrip("/")


def _stopsignal(state: _State, text: str) -> None:
    signal = _unquoted(state, text)
    if not _SIGNAL.fullmatch(signal):
        raise InvalidArgument(f"invalid signal: {signal}")
    state.config.stop_signal = signal


def _onbuild(state: _State, text: str) -> None:
    trigger = text.partition(" ")[0].upper()
    if not trigger:
        raise InvalidArgument("ONBUILD requires at least one argument")
    if trigger == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise InvalidArgument(f"{trigger} isn't allowed as an ONBUILD trigger")
    state.config.on_build = [*(state.config.on_build or []), text]


def _healthcheck(state: _State, text: str) -> None:
    check = Healthcheck()
    words = text.split(" ")
    while words and words[0].startswith("--"):
        flag, _, value = words.pop(0)[2:].partition("=")
        _healthcheck_flag(check, flag, value)
    rest = " ".join(words).strip()
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE":
        if command.strip():
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        check.test = ["NONE"]
    elif kind.upper() == "CMD":
        listed = _json_words(command.strip())
        if not (listed or command.strip()):
            raise InvalidArgument("Missing command after HEALTHCHECK CMD")
        check.test = ["CMD", *listed] if listed is not None else ["CMD-SHELL", command.strip()]
    else:
        raise InvalidArgument(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    state.config.healthcheck = check


def _healthcheck_flag(check: Healthcheck, flag: str, value: str) -> None:
    if flag == "retries":
        if not _RETRIES.fullmatch(value) or int(value) >= 1 << 31:
            raise InvalidArgument(f"invalid retries value: {value[:64]}")
        check.retries = int(value)
        return
    field = flag.replace("-", "_")
    if field not in ("interval", "timeout", "start_period", "start_interval"):
        raise InvalidArgument(f"unknown flag: --{flag}")
    try:
        duration = parse_duration(value)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    if duration and duration < 10**6:
        raise InvalidArgument(f'Interval "{flag}" cannot be less than 1ms')
    setattr(check, field, duration)


_INSTRUCTIONS: Final[dict[str, Callable[[_State, str], None]]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}


# --- commit --------------------------------------------------------------------------------


def merge(custom: RunConfig, base: RunConfig) -> RunConfig:
    """Fill what `custom` leaves open with what `base` says.

    Source: moby daemon/commit.go, merge.
    """
    merged = copy.deepcopy(custom)
    merged.user = custom.user or base.user
    merged.exposed_ports = {**(base.exposed_ports or {}), **(custom.exposed_ports or {})} or None
    merged.volumes = {**(base.volumes or {}), **(custom.volumes or {})} or None
    merged.labels = {**(base.labels or {}), **(custom.labels or {})}
    merged.env = list(custom.env or [])
    names = {entry.partition("=")[0] for entry in merged.env}
    merged.env += [entry for entry in base.env or [] if entry.partition("=")[0] not in names]
    if not custom.entrypoint:
        merged.cmd = custom.cmd or base.cmd
        if custom.entrypoint is None:
            merged.entrypoint = base.entrypoint
    merged.healthcheck = _merged_healthcheck(custom.healthcheck, base.healthcheck)
    merged.working_dir = custom.working_dir or base.working_dir
    merged.stop_signal = custom.stop_signal or base.stop_signal
    return merged


def _merged_healthcheck(custom: Healthcheck | None, base: Healthcheck | None) -> Healthcheck | None:
    if custom is None or base is None:
        return custom or base
    return Healthcheck(
        test=custom.test or base.test,
        interval=custom.interval or base.interval,
        timeout=custom.timeout or base.timeout,
        start_period=custom.start_period or base.start_period,
        start_interval=custom.start_interval or base.start_interval,
        retries=custom.retries or base.retries,
    )
