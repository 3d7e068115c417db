"""Takes away what a session of tests has made, when the session itself was killed before it could.

It waits beside the session, in a session of the terminal of its own, so that no ^C reaches it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests import session


@contextlib.contextmanager
def beside() -> Iterator[None]:
    """Have somebody take away what is left if this process does not come to the end of this."""
    environment = {name: os.environ[name] for name in os.environ if name != session.VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.reaper"],
        cwd=Path(__file__).parent.parent,
        env=environment,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    with process as reaper:
        assert reaper.stdin
        # Not in the command line: it would be taken for a process of the session.
        reaper.stdin.write(json.dumps([os.getpid(), session.TOKEN, session.temporary]).encode())
        reaper.stdin.close()
        try:
            yield
        finally:
            reaper.kill()


def reap(token: str, temporary: list[str]) -> None:
    """End the processes of a session, and remove its mounts, namespaces, cgroups and folders."""
    session.TOKEN, session.temporary[:] = token, temporary
    folders = [*Path("/var/tmp").glob(f"{token}*"), *Path("/tmp").glob(f"{token}*")]
    for folder in folders:
        session.containers.update(path.name for path in folder.glob("data/containers/*"))
    with contextlib.suppress(AssertionError):
        session.eventually(lambda: not _killed())
    for place in reversed(session.mounts()):
        if any(mark in place for mark in (token, *temporary)):
            subprocess.run(["umount", "--lazy", place], check=False)
    for path in Path("/run/netns").glob(f"{token}*"):
        subprocess.run(["ip", "netns", "del", path.name], check=False)
    for line in reversed(session.cgroups()):
        with contextlib.suppress(OSError):
            os.rmdir(line.partition(" ")[2])
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _killed() -> list[int]:
    """Kill what is there of the session, and of the containers of its engines; return the pids."""
    pids = session.pids()
    marks = [session.TOKEN, *session.containers]
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            cgroup = Path(f"/proc/{entry}/cgroup").read_text()
            if any(mark in cgroup for mark in marks) and os.path.exists(f"/proc/{entry}/exe"):
                pids.append(int(entry))
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return pids


def _wait_and_reap() -> None:
    pid, token, temporary = json.load(sys.stdin)
    with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(pid), "rb") as ended:
        select.select([ended], [], [])
    reap(token, temporary)


if __name__ == "__main__":
    _wait_and_reap()
