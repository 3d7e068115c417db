"""The processes of a cgroup: listing and signalling them all."""

from __future__ import annotations

import errno
import os
import signal as signals
import time
from collections.abc import Callable

from sampan.linux.cgroups.files import Directory, walk

PATIENCE = 2.0
"""Seconds to wait for the kernel to finish with dying or stopping processes."""


def processes(directory: Directory) -> list[int]:
    """Return the processes in a directory and below; those of foreign pid namespaces are left out.

    The kernel shows a process that the reader's pid namespace does not know as 0, and kill(0)
    would hit the caller's own group.
    """
    found: set[int] = set()
    for each in walk(directory):
        try:
            found.update(map(int, each.read("cgroup.procs").split()))
        except OSError as failure:
            if failure.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise
    found.discard(0)
    return sorted(found)


def send(pids: Callable[[], list[int]], number: int) -> None:
    """Send a signal to every process that `pids` lists, but never to the caller.

    Each is pinned by a pidfd and must still be listed then, so a number that was used again for
    a process elsewhere is not hit.
    """
    pinned: dict[int, int] = {}
    try:
        for pid in pids():
            try:
                pinned[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
        still = set(pids()) - {os.getpid()}
        for pid, pidfd in pinned.items():
            if pid in still:
                try:
                    signals.pidfd_send_signal(pidfd, number)
                except ProcessLookupError:
                    continue
    finally:
        for pidfd in pinned.values():
            os.close(pidfd)


def kill_until_empty(pids: Callable[[], list[int]], patience: float = PATIENCE) -> None:
    """Send SIGKILL round after round, until nothing is listed or time is up."""
    deadline = time.monotonic() + patience
    pause = 0.0005
    while set(pids()) - {os.getpid()} and time.monotonic() < deadline:
        send(pids, signals.SIGKILL)
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
