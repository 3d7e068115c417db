"""What only one daemon may use at a time: a data root, a run root, a network namespace.

A claim is a lock on a file, with the pid of the supervisor in it. It ends with the processes that
hold it, however they end. This module runs in the supervisor: it imports little.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from sampan.daemon.configuration.flags import UsageError

NAME = "lock"
SECONDS, PAUSE = 5.0, 0.05  # for a daemon whose supervisor was killed to notice that, and to end
NAMESPACES = "/run"  # only root makes files there
NETWORK, ENDING = "sampan-network-", ".lock"


class Claim:
    """A claim that this process holds."""

    def __init__(self, path: str, fd: int) -> None:
        self._path, self._fd = path, fd

    def release(self) -> None:
        """Let the next one have it. The file goes first: whoever waits for it looks again."""
        os.unlink(self._path)
        os.close(self._fd)


def claim_data_root(data_root: str) -> Claim:
    """Claim a data root; UsageError: it is taken."""
    return _claim(
        os.path.join(data_root, NAME), f"another daemon is using the data root {data_root}"
    )


def claim_run_root(run_root: str) -> Claim:
    """Claim a run root, where helpers and containers of one daemon are found; as above."""
    return _claim(os.path.join(run_root, NAME), f"another daemon is using the exec root {run_root}")


def claim_network(folder: str = NAMESPACES) -> Claim:
    """Claim the network namespace of this process; as above.

    A daemon takes interfaces and rules with its mark that it has no record of for left over, and
    removes them. Of two daemons in one namespace each would remove the other's.
    """
    _sweep(folder)
    namespace = os.stat("/proc/self/ns/net").st_ino
    return _claim(
        os.path.join(folder, f"{NETWORK}{namespace}{ENDING}"),
        "another daemon keeps its networks in this network namespace, and would lose them; start "
        "this one in a network namespace of its own (`nsenter --net=/run/netns/NAME`)",
    )


def holder(root: str) -> int:
    """Return the pid of the daemon that has claimed a data root or a run root; 0 if none has."""
    try:
        fd = os.open(os.path.join(root, NAME), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(fd)
    finally:
        os.close(fd)
    return 0


def _sweep(folder: str) -> None:
    """Remove the claims of daemons that were killed: nobody may ever claim their namespaces again.

    What is locked is somebody's. What is not is removed under its lock, so whoever opened it
    meanwhile finds it gone and looks again.
    """
    for name in os.listdir(folder):
        if not (name.startswith(NETWORK) and name.endswith(ENDING)):
            continue
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # it is claimed, or gone, or a link
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink:
                    os.unlink(path)
            finally:
                os.close(fd)


def _claim(path: str, refusal: str) -> Claim:
    end = time.monotonic() + SECONDS
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(fd)
            os.close(fd)
            if time.monotonic() > end or is_alive(holder):
                raise UsageError(f"failed to start daemon: {refusal}") from None
            time.sleep(PAUSE)
            continue
        if os.fstat(fd).st_nlink:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            return Claim(path, fd)
        os.close(fd)  # its holder let go of it between the two calls


def _holder(fd: int) -> int:
    """Return the pid of the supervisor that claimed it, 0 while it is not written yet."""
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that was killed and is not reaped yet does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False
