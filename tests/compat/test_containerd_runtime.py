"""Debian's containerd, with its own shim, and `sampan-runtime` in the place of runc."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.bundle import RUNTIME, Box
from tests.containerd import Ctr, containerd
from tests.session import eventually

pytestmark = [
    pytest.mark.compat,
    pytest.mark.privileged,
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not (shutil.which("containerd") and shutil.which("ctr")),
        reason="needs containerd and root",
    ),
]


@pytest.fixture(scope="module")
def ctr() -> Iterator[Ctr]:
    with containerd() as call:
        yield call


@pytest.fixture
def start(ctr: Ctr, tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run containers on a root file system in a directory."""
    box = Box(tmp_path)
    names: list[str] = []

    def run(name: str, *command: str, detach: bool = False) -> subprocess.CompletedProcess[str]:
        options = ["--runc-binary", str(RUNTIME), "--rootfs", "--cgroup", f"/{box.id}"]
        names.append(name)
        how = "--detach" if detach else "--rm"
        return ctr("run", how, *options, str(box.rootfs), name, *command, check=False)

    yield run
    for name in names:
        ctr("task", "rm", "--force", name, check=False)
        ctr("container", "rm", name, check=False)


def test_a_container_runs_to_its_end(
    start: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = start("short", "/bin/sh", "-c", "echo out; exit 7")
    assert (done.stdout, done.returncode) == ("out\n", 7)


def test_a_running_container_can_be_entered_paused_counted_and_killed(
    ctr: Ctr, start: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert start("long", "/bin/sleep", "100", detach=True).returncode == 0
    inside = ctr("task", "exec", "--exec-id", "e", "long", "/bin/sh", "-c", "exit 3", check=False)
    assert inside.returncode == 3
    ctr("task", "pause", "long")
    assert "PAUSED" in ctr("task", "ls").stdout
    ctr("task", "resume", "long")
    assert "RUNNING" in ctr("task", "ls").stdout
    assert "memory" in ctr("task", "metrics", "long").stdout
    ctr("task", "kill", "--signal", "KILL", "long")
    eventually(lambda: "STOPPED" in ctr("task", "ls").stdout)


def test_a_program_that_is_missing_is_said(
    start: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = start("missing", "/no/such/program")
    assert done.returncode != 0
    assert "no such file or directory" in done.stderr
