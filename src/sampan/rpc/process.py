"""Starting a privileged helper: exec'ed, it inherits one socket and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence


def start(
    module: str, arguments: Sequence[str] = (), *, own_session: bool = False
) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Run `python -m module FD ARGUMENTS…` and return the other end of its socket.

    The helper ends when the socket is closed. With `own_session` it does not get the terminal's
    signals.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", module, str(theirs.fileno()), *arguments],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=own_session,
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
        )
    return ours, process
