"""Starting the spawner: one for each run root, with a lock that it keeps for its life."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import resource
import socket
import time
from pathlib import Path

from sampan.errors import SampanError
from sampan.helpers.logging import log_to_file
from sampan.runtime.spawning.finding import LOCK, PATIENCE, SOCKET, connect_spawner
from sampan.runtime.spawning.recovery import recover
from sampan.runtime.spawning.roles import serve
from sampan.runtime.spawning.world import World

log = logging.getLogger("sampan.spawner")

LOG = "spawner.log"
BACKLOG = 16


def start(data_root: Path, run_root: Path, uid: int, gid: int) -> int:
    """Start the spawner and return when it listens."""
    run_root.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(run_root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if not _take_lock(lock, run_root):
        os.close(lock)
        return 0 if _answers(run_root) else 1
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        os.close(lock)
        return 0 if os.read(read, 1) else 1
    os.close(read)
    os.setsid()
    if os.fork():
        os._exit(0)
    _become_daemon(run_root)
    try:
        world = _world(data_root, run_root, uid, gid, lock)
        os.write(write, b"+")
        os.close(write)
        serve(world)
    except BaseException:
        log.exception("the spawner failed")
        os._exit(1)
    os._exit(0)


def _become_daemon(run_root: Path) -> None:
    log_to_file(run_root / LOG)
    os.umask(0o022)
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _world(data_root: Path, run_root: Path, uid: int, gid: int, lock: int) -> World:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    try:
        Path("/proc/self/oom_score_adj").write_text("-999")
    except OSError as error:
        log.warning("memory shortage may end the spawner: %s", error.strerror)
    listener = _listen(run_root / SOCKET, uid, gid)
    world = World(data_root, run_root, uid, gid, listener, lock, limits=limits)
    recover(world)
    gc.collect()
    gc.freeze()  # what is here now stays: shared with every child, never visited again
    return world


def _listen(path: Path, uid: int, gid: int) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o077)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    os.chown(path, uid, gid)
    os.chmod(path, 0o700)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _take_lock(lock: int, run_root: Path) -> bool:
    """Take the lock: True. False if a spawner answers, or if somebody keeps the lock in silence.

    A new spawner has the lock before its socket; one that was killed keeps it until it is gone.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _answers(run_root) or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            os.ftruncate(lock, 0)  # it has the pid of a spawner that is gone; ours comes later
            return True


def _answers(run_root: Path) -> bool:
    try:
        connect_spawner(run_root).close()
    except SampanError:
        return False
    return True
