"""What is settled about a process before it is launched."""

from __future__ import annotations

import os

import msgspec

from sampan.errors import InvalidArgument
from sampan.linux import users
from sampan.runtime.roots.sources import BindSource
from sampan.runtime.spawner import Bind, Source, Streams
from sampan.spec.runtime import ConsoleSize, Process, Rlimit


def prepared(process: Process | None, streams: Streams, limits: tuple[int, int]) -> Process:
    """Return the process with all that it would else inherit from the spawner.

    `limits` are the soft and the hard limit of open files. Raises InvalidArgument.
    """
    if process is None:
        raise InvalidArgument("no process is given")
    if process.terminal != streams.terminal:
        raise InvalidArgument("process and streams disagree about the terminal")
    rlimits = process.rlimits
    if not any(limit.type == "RLIMIT_NOFILE" for limit in rlimits):
        soft, hard = limits
        rlimits = [*rlimits, Rlimit(type="RLIMIT_NOFILE", soft=soft, hard=hard)]
    size = process.console_size
    if size is None and streams.rows and streams.columns:
        size = ConsoleSize(height=streams.rows, width=streams.columns)
    score = process.oom_score_adj if process.oom_score_adj is not None else 0
    return msgspec.structs.replace(process, rlimits=rlimits, console_size=size, oom_score_adj=score)


def as_user(process: Process, user: str, groups: list[str], root: int) -> Process:
    """Return the process with the user looked up in the container's own files."""
    identity = users.identify(root, user, groups)
    numbers = msgspec.structs.replace(
        process.user,
        uid=identity.uid,
        gid=identity.gid,
        additional_gids=list(identity.groups),
    )
    env = process.env
    if not any(each.startswith("HOME=") for each in env):
        env = [*env, f"HOME={identity.home}"]
    return msgspec.structs.replace(process, user=numbers, env=env)


def bind_source(given: Source | Bind) -> BindSource:
    """Return what was said of the source of a bind mount."""
    subpath = os.fsencode(given.subpath)
    if b"\0" in subpath:
        raise InvalidArgument(f"invalid subpath {given.subpath!r}")
    return BindSource(subpath, given.tree.number if given.tree else -1, given.strict)


def make_sources(paths: list[str], owner: int = 0) -> None:
    """Make the folders that bind mounts start from, as Docker does for `-v`.

    New ones belong to `owner`, the root of a container in a user namespace.
    """
    for path in paths:
        if not path.startswith("/") or "\0" in path:
            raise InvalidArgument(f"mount path must be absolute: {path!r}")
        try:
            _make(path, owner)
        except OSError as error:
            if not isinstance(error, FileExistsError):  # a file may be bound too
                raise InvalidArgument(
                    f"error while creating mount source path '{path}': {error.strerror}"
                ) from error


def _make(path: str, owner: int) -> None:
    """Make a folder and those above it that are missing."""
    if not owner:
        os.makedirs(path, 0o755, exist_ok=True)
        return
    if os.path.isdir(path):
        return
    above = os.path.dirname(path.rstrip("/"))
    if not os.path.isdir(above):
        _make(above, owner)
    os.mkdir(path, 0o755)
    os.chown(path, owner, owner, follow_symlinks=False)
