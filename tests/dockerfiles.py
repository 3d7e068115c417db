"""What our parser makes of a Dockerfile, written so that it can be compared with a table."""

from __future__ import annotations

import re
from typing import Any

from sampan.build.dockerfiles.dockerfile import parse_dockerfile
from sampan.build.instructions import model
from sampan.build.instructions.mounts import read_mount
from sampan.errors import InvalidArgument

_PLACE = re.compile("dockerfile parse error on line ([0-9]+): ")
Described = list[dict[str, Any]]


def described(text: str) -> Described | str:
    """Return the instructions without what has its default; the message if it is refused."""
    try:
        dockerfile = parse_dockerfile(text.encode("utf-8", "surrogateescape"))
        found: list[model.Instruction] = [*dockerfile.arguments]
        for stage in dockerfile.stages:
            found += [stage.begin, *stage.instructions]
        return [_described(it) for it in found]
    except InvalidArgument as error:
        return _PLACE.sub(r"\1: ", str(error).partition("\n")[0])


def _described(it: model.Instruction) -> dict[str, Any]:
    fields = {"is": _name(it), **_fields(it), "lines": [it.place.first, it.place.last]}
    return {key: value for key, value in fields.items() if value not in ("", False, None, [])}


def _name(it: model.Instruction) -> str:
    return it.place.text.split(None, 1)[0].upper()


def _documents(it: model.Run | model.Copy) -> list[list[Any]]:
    return [[one.name, one.content, one.expand] for one in it.heredocs]


def _fields(it: model.Instruction) -> dict[str, Any]:
    match it:
        case model.From():
            return {"image": it.image, "name": it.name, "platform": it.platform}
        case model.Arg():
            return {"variables": [list(pair) for pair in it.variables]}
        case model.Env() | model.Label():
            return {"pairs": [list(pair) for pair in it.pairs], "old": it.old_form}
        case model.Maintainer():
            return {"name": it.name}
        case model.Run():
            return {
                **_command(it),
                "network": "" if it.network == "default" else it.network,
                "security": "" if it.security == "sandbox" else it.security,
                "mounts": [_mount(text) for text in it.mounts],
            }
        case model.Command() | model.Entrypoint():
            return _command(it)
        case model.Copy():
            return _copy(it)
        case model.Expose():
            return {"ports": sorted(it.ports)}
        case model.User():
            return {"user": it.user}
        case model.Volume():
            return {"paths": list(it.paths)}
        case model.Workdir():
            return {"path": it.path}
        case model.StopSignal():
            return {"signal": it.signal}
        case model.ShellCommand():
            return {"command": list(it.command)}
        case model.HealthCheck():
            names = "test", "interval", "timeout", "start_period", "start_interval", "retries"
            return {name: getattr(it.check, name) or "" for name in names}
        case model.OnBuild():
            return {"trigger": it.trigger}
    raise AssertionError(it)


def _command(it: model.Run | model.Command | model.Entrypoint) -> dict[str, Any]:
    documents = [one[:2] for one in _documents(it)] if isinstance(it, model.Run) else []
    return {"command": list(it.command), "exec": not it.shell_form, "documents": documents}


def _copy(it: model.Copy) -> dict[str, Any]:
    names = "chown", "chmod", "link", "parents", "checksum", "keep_git_dir", "destination"
    return {
        **{name: getattr(it, name) for name in names},
        "from": it.origin,
        "sources": list(it.sources),
        "documents": _documents(it),
        "exclude": list(it.exclude),
        "unpack": "" if it.unpack is None else str(it.unpack).lower(),
    }


def _mount(text: str) -> dict[str, Any]:
    mount = read_mount(text)
    fields = {
        "type": mount.type,
        "from": mount.origin,
        "source": mount.source,
        "target": mount.target,
        "readonly": mount.read_only or mount.type in ("secret", "ssh"),
        "id": mount.id,
        "sharing": "" if mount.sharing == "shared" else mount.sharing,
        "required": mount.required,
        "mode": mount.mode,
        "size": mount.size,
        "env": mount.env,
        "uid": mount.uid or "",
        "gid": mount.gid or "",
    }
    return {key: value for key, value in fields.items() if value not in ("", False, None)}
