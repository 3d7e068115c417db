"""What the root of a container's user namespace sees and does, without a container."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

from sampan.linux.namespaces import CLONE_NEWUSER, setns
from sampan.rpc import Fd
from sampan.runtime.starting.user_namespaces import make
from sampan.spec.runtime import LinuxIDMapping

FIRST, SIZE = 1_900_000_000, 65_536  # ids that nobody has


def maps(first: int = FIRST) -> list[LinuxIDMapping]:
    """Return the maps of a container whose ids begin at `first`."""
    return [LinuxIDMapping(container_id=0, host_id=first, size=SIZE)]


@contextlib.contextmanager
def user_namespace(first: int = FIRST) -> Iterator[Fd]:
    """Hold a user namespace whose ids begin at `first`."""
    made = make(maps(first), maps(first))
    with Fd(made.user) as user:
        yield user


def inside(user: Fd, folder: int, script: str) -> str:
    """Run a shell script of the host in a folder, as root of a user namespace."""

    def become() -> None:
        setns(user.number, CLONE_NEWUSER)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.fchdir(folder)

    done = subprocess.run(
        ["sh", "-ec", script], preexec_fn=become, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
