"""Who serves the API, and how root's powers are given up for good."""

from __future__ import annotations

import grp
import os
import pwd
from typing import NamedTuple

from sampan.daemon.configuration.flags import UsageError


class Identity(NamedTuple):
    """The user that serves the API, and the group that may use its socket."""

    uid: int
    gid: int
    socket_gid: int


def identity(user: str, group: str) -> Identity:
    """Return the numbers of `--user` and `--group`; raises UsageError if they do not exist."""
    uid, gid = _user(user)
    return Identity(uid, gid, _group(group) if group else gid)


def _user(user: str) -> tuple[int, int]:
    name, _, group = user.partition(":")
    if name.isdecimal():
        uid = int(name)
        return uid, int(group) if group.isdecimal() else uid
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise UsageError(
            f"the user {name} does not exist: make it with "
            f"`useradd --system --no-create-home --shell /usr/sbin/nologin {name}`, "
            "or name another one with --user"
        ) from error
    return entry.pw_uid, _group(group) if group else entry.pw_gid


def _group(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise UsageError(f"could not find group {group}: it does not exist") from error


def drop(who: Identity) -> None:
    """Become `who` with no capability, now and after any execve; there is no way back."""
    # ctypes is loaded here and not by the supervisor, which stays small
    from sampan.linux import capabilities, process

    os.setgroups([who.gid])
    capabilities.drop_bounding(0)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    capabilities.capset(0, 0, 0)
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
    held = capabilities.capget()
    if held.permitted or held.effective or (who.uid and os.getresuid() != (who.uid,) * 3):
        raise RuntimeError("the daemon could not give up its privileges")
