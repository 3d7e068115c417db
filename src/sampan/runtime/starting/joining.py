"""Making a process in namespaces, some of which have to be joined first."""

from __future__ import annotations

import os
from typing import NoReturn

from sampan.errors import InvalidArgument
from sampan.linux import namespaces
from sampan.linux.namespaces import CLONE_NEWTIME, CLONE_NEWUSER, CLONE_PARENT
from sampan.runtime.starting import channel as ch
from sampan.runtime.starting import init
from sampan.runtime.starting.channel import Channel, reason
from sampan.runtime.starting.progress import Progress, received_error


def clone_sibling(flags: int, cgroup: int = -1) -> tuple[int, int]:
    """Make a child of our own parent; raises InvalidArgument."""
    try:
        return namespaces.clone3(flags | CLONE_PARENT, cgroup)
    except OSError as error:
        raise InvalidArgument(f"unable to make the namespaces: {reason(error)}") from None


def join_and_clone(
    joins: list[tuple[int, int]],
    flags: int,
    cgroup: int,
    offsets: bytes,
    progress: Progress,
    run: init.Entrance,
) -> None:
    """Let a sibling of ours join namespaces and make the process, which calls `run`.

    The supervisor itself must stay outside, so that it can clean up.
    """
    ours, theirs = Channel.pair()
    helper, pidfd = clone_sibling(0)
    if helper == 0:
        _join(joins, flags, cgroup, offsets, theirs, run)
    theirs.close()
    os.close(pidfd)
    progress.helpers.append(helper)
    tag, text, fd = ours.receive()
    ours.close()
    if tag != ch.BORN:
        raise received_error(tag, text)
    progress.pid, progress.pidfd = int(text), fd


def _join(
    joins: list[tuple[int, int]],
    flags: int,
    cgroup: int,
    offsets: bytes,
    channel: Channel,
    run: init.Entrance,
) -> NoReturn:
    try:
        join_all(joins)
        if offsets:
            namespaces.unshare(CLONE_NEWTIME)
            with open("/proc/self/timens_offsets", "wb", buffering=0) as file:
                file.write(offsets)
        pid, pidfd = namespaces.clone3(flags | CLONE_PARENT, cgroup)
        if pid == 0:
            channel.close()
            run()
        channel.send(ch.BORN, b"%d" % pid, pidfd)
    except OSError as error:
        channel.fail(InvalidArgument(f"unable to join the namespaces: {reason(error)}"))
    except BaseException as error:  # noqa: BLE001 - reported to the supervisor
        channel.fail(error)
    finally:
        os._exit(0)


def join_all(joins: list[tuple[int, int]]) -> None:
    """Join namespaces; those that belong to a user namespace among them come after it."""
    refused = []
    users = [join for join in joins if join[1] & CLONE_NEWUSER]
    for fd, kind in joins:
        if kind & CLONE_NEWUSER:
            continue
        try:
            namespaces.setns(fd, kind)
        except PermissionError:
            refused.append((fd, kind))
    for fd, kind in users:
        namespaces.setns(fd, kind)
        init.become_root()
    for fd, kind in refused:
        namespaces.setns(fd, kind)
