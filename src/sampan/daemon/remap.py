"""`--userns-remap`: the ids that containers get which do not say.

`USER`, `UID`, `USER:GROUP`, `UID:GID`: the ranges that /etc/subuid and /etc/subgid give to a user;
`default`, which is the user dockremap, made if it is missing; and, beyond Docker, `auto`: a range
for every container. Source: moby cmd/dockerd/daemon_unix.go, daemon/daemon_unix.go
(parseRemappedRoot, setupRemappedRoot), moby/sys user.LoadIdentityMapping.
"""

from __future__ import annotations

import grp
import pwd
import subprocess
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from sampan.daemon.configuration.flags import UsageError
from sampan.linux import subids
from sampan.linux.subids import Range
from sampan.spec.runtime import LinuxIDMapping
from sampan.spec.user_modes import SIZE, IdMaps

DEFAULT_USER: Final = "dockremap"
_FIRST: Final = 100_000  # of shadow's SUB_UID_MIN
_LAST: Final = 0x7FFFFFFF


def remapped(text: str) -> IdMaps | Literal["auto"] | None:
    """Return the maps of containers that do not say; raises UsageError in Docker's words."""
    if not text:
        return None
    if text == "auto":
        return "auto"
    name, uid = _user(text)
    owners = (name, str(uid))
    return IdMaps(
        uids=_map(subids.ranges(subids.SUBUID, owners), name, subids.SUBUID, "uid"),
        gids=_map(subids.ranges(subids.SUBGID, owners), name, subids.SUBGID, "gid"),
    )


def _user(text: str) -> tuple[str, int]:
    """Return the name and the id of the user; a group has to exist, and means nothing more."""
    words = text.split(":")
    if len(words) > 2 or not all(words):
        raise UsageError(f'invalid User/Group specification in --userns-remap: "{text}"')
    user = DEFAULT_USER if words[0] == "default" else words[0]
    try:
        found = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError) as error:
        what = f"uid {user} has no entry in /etc/passwd" if user.isdecimal() else f"no user {user}"
        raise UsageError(f"--userns-remap={text}: {what}") from error
    if len(words) == 2:
        _check_group(text, words[1])
    if not found.pw_uid:
        raise UsageError("--userns-remap: root cannot be remapped to itself")
    return found.pw_name, found.pw_uid


def _check_group(text: str, group: str) -> None:
    try:
        grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)
    except (KeyError, OverflowError) as error:
        raise UsageError(f"--userns-remap={text}: no group {group}") from error


def _map(ranges: Sequence[Range], name: str, file: Path, kind: str) -> list[LinuxIDMapping]:
    """Return a map in which the ranges follow one another."""
    if not ranges:
        raise UsageError(
            f'Can\'t create ID mappings: no sub{kind} ranges found for user "{name}" in {file}'
        )
    if any(sum(one) > other[0] for one, other in pairwise(sorted(ranges))):
        raise UsageError(f"Can't create ID mappings: ranges of {name} overlap in {file}")
    found, inside = [], 0
    for first, count in ranges:
        found.append(LinuxIDMapping(container_id=inside, host_id=first, size=count))
        inside += count
    return found


def make_default_user(text: str, run: Callable[[Sequence[str]], object] | None = None) -> None:
    """Make the user dockremap with a range of ids, if it is asked for and missing.

    Raises UsageError if that fails. To be called as root, once, before `remapped`.
    """
    if text.partition(":")[0] != "default":
        return
    run = run or _run
    try:
        pwd.getpwnam(DEFAULT_USER)
    except KeyError:
        run(["useradd", "--system", "--user-group", "--no-create-home", DEFAULT_USER])
    for file, option in (
        (subids.SUBUID, "--add-subuids"),
        (subids.SUBGID, "--add-subgids"),
    ):
        if not subids.ranges(file, [DEFAULT_USER]):
            first = _free(subids.ranges(file))
            run(["usermod", option, f"{first}-{first + SIZE - 1}", DEFAULT_USER])


def _free(taken: Sequence[Range]) -> int:
    """Return the first id of a range of usual size that nobody has."""
    pools = subids.without([(_FIRST, _LAST - _FIRST)], list(taken))
    for first, count in pools:
        if count >= SIZE:
            return first
    raise UsageError(f"--userns-remap=default: no {SIZE} ids are free in /etc/subuid")


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        raise UsageError(
            f"--userns-remap=default: cannot make the user {DEFAULT_USER}: {said}"
        ) from error
