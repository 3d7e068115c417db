"""The folders of the daemon, with the owners that keep its parts apart."""

from __future__ import annotations

import contextlib
import os

from sampan.daemon.claims import is_alive
from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.privileges import Identity


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


def write_pidfile(path: str) -> None:
    """Write our pid, unless another living daemon has written its own; raises UsageError."""
    if not path:
        return
    os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
    with contextlib.suppress(OSError, ValueError):
        with open(path, encoding="ascii") as file:
            old = int(file.read(32))
        if old != os.getpid() and is_alive(old):
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
