"""The folders of the daemon, with the owners that keep its parts apart."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from sampan.daemon.flags import UsageError
from sampan.daemon.privileges import Identity

LOCK = "lock"
LOCK_SECONDS = 5.0  # for a daemon whose supervisor was killed to notice that, and to end


def check_cgroups(mountinfo: str = "/proc/self/mountinfo") -> None:
    """Raise UsageError where no cgroups are to be seen: no container could be started.

    The usual reason is `ip netns exec`, which mounts a /sys of its own.
    """
    with open(mountinfo, encoding="utf-8", errors="replace") as file:
        kinds = {line.partition(" - ")[2].partition(" ")[0] for line in file}
    if not kinds & {"cgroup", "cgroup2"}:
        raise UsageError(
            "failed to start daemon: no cgroups are mounted at /sys/fs/cgroup, and no container "
            "can be started without (`ip netns exec` hides them: use `nsenter "
            "--net=/run/netns/NAME` instead)"
        )


def prepare(data_root: str, run_root: str, who: Identity) -> None:
    """Make the data root and the run root with their owners and modes."""
    # Sticky: the daemon makes its database here, but cannot rename what belongs to root.
    _folder(data_root, 0, who.gid, 0o1770)
    _folder(os.path.join(data_root, "content"), who.uid, who.gid, 0o700)
    _folder(os.path.join(data_root, "snapshots"), 0, 0, 0o700)
    _folder(os.path.join(data_root, "volumes"), 0, 0, 0o700)
    _folder(os.path.join(data_root, "containers"), 0, who.gid, 0o750)
    _folder(run_root, 0, 0, 0o755)
    _folder(os.path.join(run_root, "runtime"), 0, 0, 0o700)
    _folder(os.path.join(run_root, "plugins"), 0, 0, 0o755)


def _folder(path: str, uid: int, gid: int, mode: int) -> None:
    os.makedirs(path, mode=0o711, exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def lock(data_root: str) -> int:
    """Claim the data root for this daemon; return the descriptor that holds the claim."""
    fd = os.open(os.path.join(data_root, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end or _holder_lives(fd):
                os.close(fd)
                raise UsageError(
                    f"failed to start daemon: another daemon is using the data root {data_root}"
                ) from None
            time.sleep(0.05)
        else:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            return fd


def _holder_lives(fd: int) -> bool:
    """Tell whether the supervisor that wrote its pid is still there."""
    text = os.pread(fd, 32, 0).strip()
    return text.isdigit() and _is_alive(int(text))


def _is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that was killed and is not reaped yet does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def write_pidfile(path: str) -> None:
    """Write our pid, unless another living daemon has written its own; raises UsageError."""
    if not path:
        return
    os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
    with contextlib.suppress(OSError, ValueError):
        with open(path, encoding="ascii") as file:
            old = int(file.read(32))
        if old != os.getpid() and _is_alive(old):
            raise UsageError(
                f"failed to start daemon, ensure the daemon is not running or delete {path}: "
                f"process with PID {old} is still running"
            )
    with open(path, "w", encoding="ascii") as file:
        file.write(str(os.getpid()))


def remove_pidfile(path: str) -> None:
    """Remove the pid file."""
    if path:
        with contextlib.suppress(OSError):
            os.unlink(path)
