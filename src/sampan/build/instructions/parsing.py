"""From lines to instructions: arguments counted and divided, flags read, nothing replaced.

Source: moby buildkit frontend/dockerfile/instructions/parse.go (rules and messages).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from sampan.build.dockerfiles import words
from sampan.build.dockerfiles.source import Node, Source, cut, heredocs_of
from sampan.build.instructions import model
from sampan.build.instructions.devices import read_device
from sampan.build.instructions.durations import check_interval, duration
from sampan.build.instructions.flags import Flags, Kind
from sampan.build.instructions.suggesting import hint
from sampan.errors import InvalidArgument
from sampan.spec.image import Healthcheck

_NUMBER: Final = re.compile("[+-]?[0-9]+")
_DIGITS: Final = 20
_STAGE_NAME: Final = re.compile(r"[a-z][a-z0-9-_.]*")
_COPY_FLAGS: Final[Mapping[str, Kind]] = {
    "from": "string", "chown": "string", "chmod": "string", "link": "bool", "parents": "bool",
    "exclude": "strings",
}  # fmt: skip
_ADD_FLAGS: Final[Mapping[str, Kind]] = {
    "chown": "string", "chmod": "string", "link": "bool", "exclude": "strings",
    "checksum": "string", "keep-git-dir": "bool", "unpack": "bool",
}  # fmt: skip
_RUN_FLAGS: Final[Mapping[str, Kind]] = {
    "mount": "strings", "network": "string", "security": "string", "device": "strings",
}  # fmt: skip
_HEALTH_FLAGS: Final[Mapping[str, Kind]] = {
    "interval": "string", "timeout": "string", "start-period": "string",
    "start-interval": "string", "retries": "string",
}  # fmt: skip


class _Input:
    """One line, on its way to be an instruction."""

    def __init__(self, source: Source, node: Node) -> None:
        self.node, self.escape = node, source.escape
        self.place = model.Place(first=node.first, last=node.last, text=node.original)

    def flags(self, known: Mapping[str, Kind]) -> Flags:
        return Flags(self.node.flags, known)

    @property
    def rest(self) -> str:
        return self.node.rest

    def at_least_one(self) -> None:
        if not self.rest:
            raise InvalidArgument(f"{self.node.name} requires at least one argument")

    def exactly_one(self) -> str:
        if not self.rest:
            raise InvalidArgument(f"{self.node.name} requires exactly one argument")
        return self.rest


def parse(source: Source, node: Node) -> model.Instruction:
    """Return the instruction that a line is. Raises InvalidArgument with its place."""
    try:
        return _parse(source, node)
    except InvalidArgument as error:
        raise source.located(error, node.first, node.last) from error


def _parse(source: Source, node: Node) -> model.Instruction:
    parser = _PARSERS.get(node.name)
    if parser is None:
        names = _PARSERS if node.keyword.isupper() else map(str.lower, _PARSERS)
        meant = hint(node.keyword, names)
        raise InvalidArgument(f"unknown instruction: {node.keyword}{meant}")
    return parser(_Input(source, node))


def _from(it: _Input) -> model.Instruction:
    platform = it.flags({"platform": "string"}).one("platform")
    given = words.words(it.rest)
    name = ""
    if len(given) == 3 and given[1].lower() == "as":
        name = given[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise InvalidArgument(
                f"invalid name for build stage: {json.dumps(given[2], ensure_ascii=False)}, name"
                " can't start with a number or contain symbols"
            )
    elif len(given) != 1:
        raise InvalidArgument("FROM requires either one or three arguments")
    return model.From(image=given[0], name=name, platform=platform, place=it.place)


def _arg(it: _Input) -> model.Instruction:
    it.at_least_one()
    variables: list[tuple[str, str | None]] = []
    for word in words.quoted_words(it.rest, it.escape):
        name, equals, value = word.partition("=")
        if not name:
            raise InvalidArgument("ARG names can not be blank")
        variables.append((name, value if equals else None))
    return model.Arg(variables=variables, place=it.place)


def _env(it: _Input) -> model.Instruction:
    it.flags({})
    pairs, old = words.pairs("ENV", it.rest, it.escape)
    return model.Env(pairs=pairs, old_form=old, place=it.place)


def _label(it: _Input) -> model.Instruction:
    it.flags({})
    pairs, old = words.pairs("LABEL", it.rest, it.escape)
    return model.Label(pairs=pairs, old_form=old, place=it.place)


def _maintainer(it: _Input) -> model.Instruction:
    it.flags({})
    return model.Maintainer(name=it.exactly_one(), place=it.place)


def _run(it: _Input) -> model.Instruction:
    flags = it.flags(_RUN_FLAGS)
    network = flags.one("network", "default")
    if network not in ("default", "none", "host"):
        raise InvalidArgument(f'invalid network mode "{network}"')
    security = flags.one("security", "sandbox")
    if security not in ("sandbox", "insecure"):
        raise InvalidArgument(f'security "{security}" is not valid')
    command, shell_form = _command(it)
    if not any(command):
        raise InvalidArgument("RUN requires at least one argument")
    return model.Run(
        command=command,
        shell_form=shell_form,
        heredocs=tuple(it.node.heredocs),
        mounts=flags.all("mount"),
        network=network,
        security=security,
        devices=tuple(map(read_device, flags.all("device"))),
        place=it.place,
    )


def _command(it: _Input) -> tuple[list[str], bool]:
    listed = words.json_list(it.rest)
    if listed is not None:
        return listed, False
    return ([it.rest] if it.rest else []), True


def _cmd(it: _Input) -> model.Instruction:
    it.flags({})
    command, shell_form = _command(it)
    return model.Command(command=command, shell_form=shell_form, place=it.place)


def _entrypoint(it: _Input) -> model.Instruction:
    it.flags({})
    command, shell_form = _command(it)
    return model.Entrypoint(command=command, shell_form=shell_form, place=it.place)


def _copy(it: _Input) -> model.Instruction:
    add = it.node.name == "ADD"
    flags = it.flags(_ADD_FLAGS if add else _COPY_FLAGS)
    given = words.json_or_words(it.rest)
    if len(given) < 2:
        raise InvalidArgument(
            f"{it.node.name} requires at least two arguments, but only one was provided."
            " Destination could not be determined"
        )
    *sources, destination = given
    if heredocs_of("COPY", destination):
        raise InvalidArgument(f"{it.node.name} cannot accept a heredoc as a destination")
    begun = {heredoc.name for heredoc in it.node.heredocs}
    if begun:
        sources = [word for word in sources if not heredocs_of("COPY", word)]
    return model.Copy(
        sources=sources,
        destination=destination,
        heredocs=tuple(it.node.heredocs),
        add=add,
        origin=flags.one("from"),
        chown=flags.one("chown"),
        chmod=flags.one("chmod"),
        link=flags.boolean("link"),
        parents=flags.boolean("parents"),
        exclude=flags.all("exclude"),
        checksum=flags.one("checksum"),
        keep_git_dir=flags.boolean("keep-git-dir") if "keep-git-dir" in flags else None,
        unpack=flags.boolean("unpack") if "unpack" in flags else None,
        place=it.place,
    )


def _expose(it: _Input) -> model.Instruction:
    it.flags({})
    it.at_least_one()
    return model.Expose(ports=words.words(it.rest), place=it.place)


def _user(it: _Input) -> model.Instruction:
    it.flags({})
    return model.User(user=it.exactly_one(), place=it.place)


def _volume(it: _Input) -> model.Instruction:
    it.flags({})
    paths = words.json_or_words(it.rest)
    if not paths:
        raise InvalidArgument("VOLUME requires at least one argument")
    if not all(path.strip() for path in paths):
        raise InvalidArgument("VOLUME specified can not be an empty string")
    return model.Volume(paths=[path.strip() for path in paths], place=it.place)


def _workdir(it: _Input) -> model.Instruction:
    it.flags({})
    return model.Workdir(path=it.exactly_one(), place=it.place)


def _stopsignal(it: _Input) -> model.Instruction:
    return model.StopSignal(signal=it.exactly_one(), place=it.place)


def _shell(it: _Input) -> model.Instruction:
    it.flags({})
    listed = words.json_list(it.rest)
    if listed is None:
        if not it.rest:
            raise InvalidArgument("SHELL requires at least one argument")
        raise InvalidArgument("SHELL requires the arguments to be in JSON form")
    if not listed:
        raise InvalidArgument("SHELL requires at least one argument")
    return model.ShellCommand(command=listed, place=it.place)


def _healthcheck(it: _Input) -> model.Instruction:
    it.at_least_one()
    kind, *more = it.rest.split(None, 1)
    kind, rest = kind.upper(), "".join(more).strip()
    if kind == "NONE":
        if rest:
            raise InvalidArgument("HEALTHCHECK NONE takes no arguments")
        return model.HealthCheck(check=Healthcheck(test=["NONE"]), place=it.place)
    if kind != "CMD":
        raise InvalidArgument(f'Unknown type "{kind}" in HEALTHCHECK (try CMD)')
    listed = words.json_list(rest)
    if not (rest if listed is None else any(listed)):
        raise InvalidArgument("Missing command after HEALTHCHECK CMD")
    flags = it.flags(_HEALTH_FLAGS)
    check = Healthcheck(
        test=["CMD-SHELL", rest] if listed is None else ["CMD", *listed],
        interval=_interval(flags, "interval"),
        timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"),
        start_interval=_interval(flags, "start-interval"),
        retries=_retries(flags.one("retries")),
    )
    return model.HealthCheck(check=check, place=it.place)


def _interval(flags: Flags, name: str) -> int:
    text = flags.one(name)
    return check_interval(name, duration(text)) if text else 0


def _retries(text: str) -> int:
    if not text:
        return 0
    if not _NUMBER.fullmatch(text):
        raise InvalidArgument(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if len(text) > _DIGITS or abs(int(text)) >= 1 << 31:
        raise InvalidArgument(f'strconv.ParseInt: parsing "{text}": value out of range')
    if int(text) < 0:
        raise InvalidArgument(f"--retries cannot be negative ({int(text)})")
    return int(text)


def _onbuild(it: _Input) -> model.Instruction:
    it.flags({})
    it.at_least_one()
    trigger = cut(it.rest, it.node.first, it.node.last)
    if trigger.name == "ONBUILD":
        raise InvalidArgument("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger.name in ("MAINTAINER", "FROM"):
        raise InvalidArgument(f"{trigger.name} isn't allowed as an ONBUILD trigger")
    if trigger.name in ("ENV", "LABEL") and trigger.rest:
        words.pairs(trigger.name, trigger.rest, it.escape)
    documents = "".join(f"\n{one.content}{one.name}" for one in it.node.heredocs)
    end = "" if documents else it.node.tail
    return model.OnBuild(trigger=it.rest + end + documents, place=it.place)


_PARSERS: Final[Mapping[str, Callable[[_Input], model.Instruction]]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
