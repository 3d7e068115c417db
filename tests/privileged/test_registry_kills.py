"""kill -9 before each system call that changes a file: of pushes, removals, collections, a start.

Also those that SQLite makes by itself, within a COMMIT, say: the kernel is asked, by strace.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.registry.registry import Registry
from tests.session import PATIENCE, eventually
from tests.unit.registry.test_every_point import OLD, STORIES, Story, check, push

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
# What changes a file, a folder, or what of it outlasts a power failure. strace counts each alone.
CALLS = ("openat", "write", "pwrite64", "ftruncate", "mkdir", "rename", "unlink", "unlinkat")
CALLS += ("rmdir", "fsync", "io_submit", "fdatasync")
POINTS = 500  # more than any of the stories has
DONE = 42
CORE = {("push_new", "pwrite64"), ("push_new", "rename"), ("collect", "rename")}
TAGS = "docker/registry/v2/repositories/a/_manifests/tags"
# What a story does not do without: else nothing would be killed there.
AT_LEAST = {
    "push_new": ("openat", "write", "pwrite64", "mkdir", "rename", "fsync", "io_submit"),
    "move_a_tag": ("openat", "write", "pwrite64", "mkdir", "rename", "fsync", "io_submit"),
    "remove_the_manifest": ("rename", "unlink", "rmdir", "pwrite64"),
    "remove_the_tag": ("rename", "unlink", "rmdir", "pwrite64"),
    "collect": ("rename", "unlink", "rmdir", "pwrite64"),
    "start_again": ("openat", "pwrite64", "mkdir"),
}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory: what a kill leaves does not depend on the disk, which is slow."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def start_again(registry: Registry) -> None:
    """A start reads what is there, in a folder that no row is about."""


def live(folder: Path, story: Story, call: str, last: int) -> bool:
    """Live through a story up to a system call, in a process; tell whether the story ended."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        try:
            if story is start_again:
                shutil.rmtree(folder / "sampan")
                _meet(theirs)
                Registry.on_filesystem(str(folder)).close()
                os._exit(DONE)
            registry = Registry.on_filesystem(str(folder))
            _meet(theirs)
            story(registry)
            os._exit(DONE)
        except BaseException:  # the parent must not live twice
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(1)
    theirs.close()
    command = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-p", str(child)]
    command += ["-e", f"inject={call}:signal=KILL:when={last}"]
    with ours:
        assert ours.recv(1) == b"r"
        tracer = subprocess.Popen(command)
        eventually(lambda: _is_traced(child) or tracer.poll() is not None)
        ours.sendall(b"g")
        _, status = os.waitpid(child, 0)
        assert tracer.wait(PATIENCE) == 0
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == DONE
    return True


def _meet(other: socket.socket) -> None:
    """Say that one is ready, and wait until one is watched."""
    other.sendall(b"r")
    other.recv(1)


def _is_traced(pid: int) -> bool:
    return "\nTracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


POINTS_OF_ALL = [
    pytest.param(
        *(story, call),
        id=f"{story.__name__}-{call}",
        marks=() if (story.__name__, call) in CORE else pytest.mark.wide,
    )
    for story in [*STORIES, start_again]
    for call in CALLS
]


@pytest.mark.parametrize(("story", "call"), POINTS_OF_ALL)
def test_a_kill_at_any_system_call_loses_nothing_and_leaves_nothing_half(
    story: Story, call: str, place: Path
) -> None:
    before = place / "before"
    with Registry.on_filesystem(str(before)) as registry:
        push(registry, "keep", b"kept", b"shared")
        push(registry, "old", *OLD)
    for last in range(1, POINTS):
        folder = place / str(last)
        shutil.copytree(before, folder)
        ended = live(folder, story, call, last)
        check(folder, story, ended and story is not start_again)
        if story is start_again:
            assert sorted(os.listdir(folder / TAGS)) == ["again", "keep", "old"]
        shutil.rmtree(folder)
        if ended:
            assert last > 1 or call not in AT_LEAST[story.__name__]
            return
    pytest.fail("the story has no end")
