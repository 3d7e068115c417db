"""User namespaces that are made before the container that will live in them.

The storage helper maps the files of the root by it, and the network of the container has to belong
to it: both need it before the first process of the container exists. It lasts as long as somebody
holds its descriptor.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from sampan.errors import InvalidArgument
from sampan.linux import namespaces
from sampan.linux.namespaces import CLONE_NEWNET, CLONE_NEWUSER
from sampan.runtime.starting import prepare
from sampan.runtime.starting.channel import reason
from sampan.spec.runtime import LinuxIDMapping


@dataclass(slots=True)
class Made:
    """Descriptors of new namespaces, which the caller owns."""

    user: int
    network: int = -1


def make(
    uids: list[LinuxIDMapping],
    gids: list[LinuxIDMapping],
    *,
    network: bool = False,
    ended: Callable[[int], None] | None = None,
) -> Made:
    """Make a user namespace with these maps, and with `network` one that belongs to it.

    A process is needed to make them; it is killed, and `ended` gets its pid to reap it some time.
    Raises InvalidArgument for maps that the kernel refuses.
    """
    pid, pidfd = namespaces.clone3(CLONE_NEWUSER | (CLONE_NEWNET if network else 0))
    if pid == 0:
        _wait_for_the_end()
    made = Made(-1)
    try:
        write_id_maps(pid, uids, gids)
        made.user = _open(pid, "user")
        if network:
            made.network = _open(pid, "net")
    except BaseException:
        if made.user >= 0:
            os.close(made.user)
        raise
    finally:
        _end(pid, pidfd, ended)
    return made


def make_network(user: int, ended: Callable[[int], None] | None = None) -> int:
    """Make a network namespace that belongs to a user namespace; raises OSError."""
    read, write = os.pipe2(os.O_CLOEXEC)
    pid, pidfd = namespaces.clone3(0)
    if pid == 0:
        try:
            namespaces.setns(user, CLONE_NEWUSER)
            namespaces.unshare(CLONE_NEWNET)
            os.write(write, b"+")
        except OSError:
            os._exit(1)
        _wait_for_the_end()
    os.close(write)
    try:
        if not os.read(read, 1):
            raise OSError(errno.EPERM, "the user namespace cannot be joined")
        return _open(pid, "net")
    finally:
        os.close(read)
        _end(pid, pidfd, ended)


def _wait_for_the_end() -> NoReturn:
    while True:
        signal.pause()


def _end(pid: int, pidfd: int, ended: Callable[[int], None] | None) -> None:
    with suppress(ProcessLookupError):
        namespaces.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    if ended is not None:
        ended(pid)
    else:
        os.waitpid(pid, 0)


def write_id_maps(pid: int, uids: list[LinuxIDMapping], gids: list[LinuxIDMapping]) -> None:
    """Write the maps of a process that has just entered a new user namespace."""
    try:
        if os.geteuid() != 0:
            write(f"/proc/{pid}/setgroups", b"deny")
        write(f"/proc/{pid}/gid_map", prepare.id_map(gids))
        write(f"/proc/{pid}/uid_map", prepare.id_map(uids))
    except OSError as error:
        raise InvalidArgument(f"unable to write the id mappings: {reason(error)}") from None


def write(path: str, content: bytes) -> None:
    """Write a file of procfs in one go."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def _open(pid: int, kind: str) -> int:
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
