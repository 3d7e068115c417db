"""What one session of tests makes is marked as its own, so that it can be told whether all is gone.

Several sessions may run on a machine at once: everything that a test makes outside `tmp_path`
carries `TOKEN` in its name, and every process that it starts carries it in its environment.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

TOKEN = f"sampan-test-{secrets.token_hex(3)}"
VARIABLE = "SAMPAN_TEST_SESSION"
CGROUPS = Path("/sys/fs/cgroup")
# Seconds; only ever waited for when something is broken, or the machine is emulated.
PATIENCE = float(os.environ.get("SAMPAN_TEST_PATIENCE", "30"))

containers: set[str] = set()  # ids of containers of engines under test
temporary: list[str] = []  # where the folders of pytest lie


def eventually(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until the condition holds; fail if it does not within `patience` seconds."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.01)


def unique() -> str:
    """Return a name for a network namespace, a cgroup or a container of this session."""
    return f"{TOKEN}-{secrets.token_hex(4)}"


def scratch() -> Path:
    """Make a folder on a file system that overlay takes, with a short path for sockets."""
    return Path(tempfile.mkdtemp(prefix=f"{TOKEN}-", dir="/var/tmp"))


def left() -> list[str]:
    """Return what is there of this session."""
    marks = [TOKEN, *temporary]
    return [
        *(f"process {pid}: {command}" for pid, command in _processes(marks)),
        *(f"mount {path}" for path in mounts() if any(mark in path for mark in marks)),
        *(f"loop device {path}" for path in _loops() if TOKEN in path),
        *(f"folder {path}" for path in Path("/var/tmp").glob(f"{TOKEN}*")),
        *(f"folder {path}" for path in Path("/tmp").glob(f"{TOKEN}*")),
        *(f"network namespace {name}" for name in _names("/run/netns") if TOKEN in name),
        *cgroups(),
    ]


def own_mounts() -> list[str]:
    """Return the mounts that are not those of another session of tests, or of a namespace."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    marks = [TOKEN, *temporary]
    others = [
        line
        for line in lines
        if re.search("sampan-test-|/pytest-of-", line) and not any(mark in line for mark in marks)
    ]
    return [line for line in lines if line not in others and " - nsfs " not in line]


def network() -> set[str]:
    """Return the interfaces and firewall tables of the machine's own network namespace."""
    listed = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True)
    return {f"interface {name}" for name in _names("/sys/class/net")} | {
        f"firewall {line}" for line in listed.stdout.splitlines()
    }


def _names(folder: str) -> Iterable[str]:
    return os.listdir(folder) if os.path.isdir(folder) else ()


def mounts() -> list[str]:
    """Return where something is mounted, in the order in which it was."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines]


def _loops() -> Iterable[str]:
    for device in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it was let go meanwhile
            yield device.read_text()


def cgroups() -> list[str]:
    """Return the cgroups of this session; those of others come and go meanwhile."""
    found = []
    for folder, names, _ in os.walk(CGROUPS):
        found += [
            f"cgroup {folder}/{name}" for name in names if TOKEN in name or name in containers
        ]
    return found


def pids() -> list[int]:
    """Return the processes of this session, but for the one that asks."""
    return [pid for pid, _ in _processes([TOKEN, *temporary])]


def _processes(marks: list[str]) -> list[tuple[int, str]]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # it has ended
        command = line.replace(b"\0", b" ").decode(errors="replace").strip()
        ours = f"{VARIABLE}={TOKEN}".encode() in environment.split(b"\0")
        if int(pid) != os.getpid() and command and (ours or any(mark in command for mark in marks)):
            found.append((int(pid), re.sub(" +", " ", command)))
    return found
