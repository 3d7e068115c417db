"""Finding the spawner of a run root, and starting it if there is none: the daemon's side."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from sampan.errors import Unavailable

SOCKET = "spawner.sock"
LOCK = "spawner.lock"  # kept by a spawner until it is gone
PATIENCE = 5.0  # seconds that one waits for the beginning or the end of a spawner
MODULE = "sampan.helpers.spawn"


def connect_spawner(run_root: Path) -> socket.socket:
    """Return a connection for `rpc.connect(Spawner, …)`; raises Unavailable if nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(str(run_root / SOCKET))
    except OSError as error:
        sock.close()
        raise Unavailable(f"the spawner does not answer: {error.strerror}") from error
    return sock


def open_spawner(data_root: Path, run_root: Path, uid: int = 0, gid: int = 0) -> socket.socket:
    """Return a connection to the spawner, which is started if need be (that needs root).

    `uid` may connect from now on, `gid` may read the logs; both are those of the daemon.
    """
    command = [sys.executable, "-I", "-m", MODULE, "start"]
    command += [str(data_root), str(run_root), str(uid), str(gid)]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        check=False,
    )
    if done.returncode:
        message = done.stderr.decode(errors="replace").strip().splitlines()
        raise Unavailable(f"the spawner did not start: {message[-1] if message else ''}")
    return connect_spawner(run_root)


def stop_spawner(data_root: Path, run_root: Path) -> bool:
    """End the spawner of `run_root` if no container runs; tell whether none is left."""
    command = [sys.executable, "-I", "-m", MODULE, "stop", str(data_root), str(run_root)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return not done.returncode
