"""The way back: what a daemon has stored and made goes, and the machine is as it was before.

The daemon ends first, then containers, networks and rules, mounts, files and cgroups. A step that
fails keeps none of the others from being done. It needs nothing of the program that made all this,
which may be gone. Only names of ours are removed in the data root and the run root, so that a
root that was chosen badly costs nobody anything else.
"""

from __future__ import annotations

import os
import re
import select
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.daemon import claims, privileges, roots
from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.services import execute
from sampan.errors import Conflict, NotFound, SampanError

_DATA: Final = re.compile(
    r"containers|content|database\.sqlite.*|engine-id|images|snapshots|volumes|\.try-.*"
)
_RUN: Final = re.compile(
    r"certs\.d|filters|journal.*|network|plugins|runtime|spawner\..*|sampand?\.(sock|log|pid)"
)
_SIGNS: Final = ("engine-id", "snapshots")  # a data root has both
_CALL_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 30.0  # beyond the daemon's own time limit for containers
_SERVICE: Final = "/sampan.service"
_CGROUP: Final = "sampan"  # the parent of all containers' cgroups, unless another one is chosen

if TYPE_CHECKING:
    from sampan.runtime.spawner import Spawner


def reset(config: Config) -> int:
    """Ask, then remove everything; return the exit code."""
    data_root, run_root = config["data-root"], config["exec-root"]
    if os.geteuid() != 0:
        raise UsageError("a reset needs root: containers, networks and their files belong to it")
    there = [root for root in (data_root, run_root) if os.path.isdir(root)]
    if not there:
        say(f"there is nothing to remove: neither {data_root} nor {run_root} exists")
        return 0
    _check_signs(data_root)
    daemon = claims.holder(data_root) or claims.holder(run_root)
    if daemon:
        _check_daemon(daemon)
    if not config["force"] and not _agreed(data_root, daemon):
        return 0
    if daemon:
        _end_daemon(daemon, _STOP_SECONDS + max(0, config["shutdown-timeout"]))
    failures = _remove_all(config, there)
    left = [path for root in there for path in _left(root)]
    for failure in failures:
        say(f"failed: {failure}")
    for path in left:
        say(f"{path} is left: it is none of Sampan's")
    if failures:
        return 1
    say("everything is removed; the program itself and its user are left")
    return 0


def say(sentence: str) -> None:
    """Tell the user."""
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


# --- before ----------------------------------------------------------------------------------


def _check_signs(data_root: str) -> None:
    """Refuse a folder that is no data root: somebody may have mistaken its name."""
    names = set(os.listdir(data_root)) if os.path.isdir(data_root) else set()
    lacking = [sign for sign in _SIGNS if sign not in names]
    if names - {claims.NAME} and lacking:
        raise UsageError(
            f"{data_root} is no data root of Sampan: {' and '.join(lacking)} would be in it"
        )


def _check_daemon(pid: int) -> None:
    with suppress(FileNotFoundError, ProcessLookupError):
        if _SERVICE in Path(f"/proc/{pid}/cgroup").read_text():
            raise UsageError(
                "the daemon is a service that would be started again: first "
                "`systemctl disable --now sampan.socket sampan.service`"
            )
        if not os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net"):
            raise UsageError(
                "the daemon keeps its networks in another network namespace: do this there, by "
                f"`nsenter --net=/proc/{pid}/ns/net`"
            )


def _agreed(data_root: str, daemon: int) -> bool:
    lines = [
        *([f"the daemon (process {daemon}), which is ended"] if daemon else []),
        "all containers, also those that run",
        "all volumes, with what is in them",
        f"all images, the build cache and all else in {data_root}",
        "all networks, with their bridges and firewall rules",
    ]
    text = "WARNING! This will remove:\n" + "".join(f"  - {line}\n" for line in lines)
    sys.stdout.write(f"{text}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() == "y"


def _end_daemon(pid: int, seconds: float) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not _ends(pidfd, seconds):
            raise UsageError(f"the daemon (process {pid}) does not end: nothing was removed")
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def _ends(pidfd: int, seconds: float) -> bool:
    """Wait for a process; tell whether it has ended within so many seconds."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


# --- the steps -------------------------------------------------------------------------------


def _remove_all(config: Config, there: list[str]) -> list[str]:
    """Do every step, while nobody else may use the roots; return what has failed."""
    failures: list[str] = []
    data_root, run_root = config["data-root"], config["exec-root"]

    def attempt(step: Callable[[], object]) -> None:
        try:
            step()
        except (OSError, SampanError) as error:
            failures.append(str(error))

    with ExitStack() as ours:
        for root in there:
            claim = claims.claim_data_root if root == data_root else claims.claim_run_root
            ours.callback(claim(root).release)
        ours.callback(claims.claim_network().release)
        attempt(lambda: _end_containers(config))
        attempt(lambda: _remove_networks(run_root))
        attempt(lambda: _end_spawner(data_root, run_root))
        for root, names in ((run_root, _RUN), (data_root, _DATA)):
            attempt(lambda root=root: _unmount_below(root))  # type: ignore[misc]
            for name in filter(names.fullmatch, os.listdir(root) if root in there else []):
                attempt(lambda root=root, name=name: _remove(root, name))  # type: ignore[misc]
        attempt(lambda: _remove_sockets(config))
        attempt(_remove_cgroups)
        attempt(lambda: _remove_pidfile(config["pidfile"]))
    for root in there:
        with suppress(OSError):  # it is a disk of its own, or holds what is not ours: see `_left`
            os.rmdir(root)
    return failures


def _end_containers(config: Config) -> None:
    """Kill all containers, and drop what the spawner knows of them."""
    data_root, run_root = config["data-root"], config["exec-root"]
    from sampan import rpc
    from sampan.runtime.spawner import Spawner
    from sampan.runtime.spawning.finding import LOCK, connect_spawner

    if not os.path.exists(os.path.join(run_root, LOCK)):
        return  # there is none: the machine was started anew, or somebody has removed the folder

    who = privileges.identity(config["user"], config["group"])
    words = ["start", data_root, run_root, str(who.uid), str(who.gid)]
    os.waitpid(execute("sampan.helpers.spawn", words), 0)
    with connect_spawner(Path(run_root)) as sock:
        spawner = rpc.connect(Spawner, sock, deadline=_CALL_SECONDS)  # type: ignore[type-abstract]
        end_all(spawner)


def end_all(spawner: Spawner) -> None:
    """End and forget all containers; raise what kept the first of them, once all were tried."""
    failures: list[OSError | SampanError] = []
    for task in spawner.tasks():
        if task.exec_id:
            continue
        try:
            if task.state != "stopped":
                _kill(spawner, task.id, is_paused=task.state == "paused")
            with suppress(NotFound):
                spawner.forget(task.id, remove=True)
        except (OSError, SampanError) as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _kill(spawner: Spawner, id: str, *, is_paused: bool) -> None:
    with suppress(NotFound):  # it is forgotten already
        with suppress(Conflict):  # it has ended by itself
            _kill_running(spawner, id, is_paused)
        spawner.wait(id)


def _kill_running(spawner: Spawner, id: str, is_paused: bool) -> None:
    pidfd = spawner.pidfd(id).pidfd.number
    try:
        with suppress(Conflict):  # it has ended before all was asked for
            spawner.signal(id, signal=signal.SIGKILL, all=True)
            if is_paused:
                spawner.freeze(id, frozen=False)
        if not _ends(pidfd, _CALL_SECONDS):
            raise TimeoutError(f"container {id} does not end")
    finally:
        os.close(pidfd)


def _remove_networks(run_root: str) -> None:
    from sampan.network.dismantling import dismantle

    dismantle(Path(run_root, "network"))


def _end_spawner(data_root: str, run_root: str) -> None:
    pid = execute("sampan.helpers.spawn", ["stop", data_root, run_root])
    if os.waitpid(pid, 0)[1]:
        raise OSError("the spawner goes on")


def _unmount_below(root: str) -> None:
    """Unmount what is mounted in a root, the innermost first; the root itself may be a mount."""
    from sampan.linux.mountinfo import mount_points
    from sampan.linux.mounts import MNT_DETACH, umount2

    inside = os.path.join(os.path.realpath(root), "")
    for place in reversed([place for place in mount_points() if place.startswith(inside)]):
        umount2(os.fsencode(place), MNT_DETACH)


def _remove(root: str, name: str) -> None:
    from sampan.linux import trees

    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        trees.remove(folder, os.fsencode(name))
    finally:
        os.close(folder)


def _remove_sockets(config: Config) -> None:
    """Remove sockets of a daemon that was killed; others are gone with it."""
    for host in config.hosts:
        path = host.removeprefix("unix://")
        with suppress(FileNotFoundError):
            if path.startswith("/") and stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)


def _remove_cgroups() -> None:
    """Remove the parent of containers' cgroups, unless another engine has some in it."""
    from sampan.linux.cgroups import hierarchy

    for mount, _, _ in hierarchy.detect().mounts():
        with suppress(OSError):
            os.rmdir(os.path.join(mount, _CGROUP))


def _remove_pidfile(path: str) -> None:
    with suppress(OSError, ValueError):
        if not claims.is_alive(int(Path(path).read_text())):
            roots.remove_pidfile(path)


def _left(root: str) -> Iterator[str]:
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        yield os.path.join(root, name)
