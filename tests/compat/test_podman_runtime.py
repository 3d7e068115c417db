"""Debian's podman with `sampan-runtime` in the place of runc."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.session import eventually, scratch

pytestmark = [
    pytest.mark.compat,
    pytest.mark.privileged,
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("podman") or os.geteuid() != 0, reason="needs podman and root"
    ),
]

RUNTIME = Path(sys.executable).with_name("sampan-runtime")
BUSYBOX = Path("/bin/busybox")
APPLETS = ("sh", "ls", "id", "cat", "sleep", "true", "mount", "ps", "grep", "stat", "kill", "echo")

Podman = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """Run podman on storage of its own, with an image made of busybox."""
    home = scratch()  # podman takes no path of more than 50 letters
    options = [
        *("--root", str(home / "root"), "--runroot", str(home / "run")),
        *("--tmpdir", str(home / "tmp"), "--cgroup-manager=cgroupfs", "--events-backend=file"),
        *("--storage-driver=vfs", "--runtime", str(RUNTIME)),
    ]

    def call(
        *arguments: str, input: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command = ["podman", *options, *arguments]
        done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=90)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    archive = home / "busybox.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for folder in ("proc", "sys", "dev", "tmp", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
    call("import", str(archive), "busybox")
    yield call
    call("rm", "--all", "--force", "--time", "0")
    for group in Path("/sys/fs/cgroup").glob("*/libpod_parent"):
        with contextlib.suppress(OSError):  # another podman is using it
            group.rmdir()
    shutil.rmtree(home)


@pytest.fixture
def sleeper(podman: Podman) -> Iterator[str]:
    """A container that sleeps, and ends at SIGTERM."""
    script = "trap 'exit 3' TERM; while :; do sleep 0.1; done"
    name = podman("run", "-d", "--network=none", "busybox", "sh", "-c", script).stdout.strip()
    yield name
    podman("rm", "--force", "--time", "0", name, check=False)


def run(podman: Podman, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return podman("run", "--rm", "--network=none", *arguments, **options)


def test_output_and_exit_code_come_through(podman: Podman) -> None:
    done = run(podman, "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_input_reaches_the_program(podman: Podman) -> None:
    assert run(podman, "-i", "busybox", "cat", input="hello").stdout == "hello"


def test_a_terminal_is_one(podman: Podman) -> None:
    done = run(podman, "-t", "busybox", "sh", "-c", "test -t 0 && test -t 1 && echo yes")
    assert done.stdout.strip() == "yes"


@pytest.mark.parametrize(("command", "code"), [("no-such-program", 127), ("/etc", 126)])
def test_a_program_that_cannot_run_has_its_exit_code(
    podman: Podman, command: str, code: int
) -> None:
    assert run(podman, "busybox", command, check=False).returncode == code


def test_user_capabilities_and_limits_are_those_asked_for(podman: Podman) -> None:
    script = "id -u; id -g; grep CapEff /proc/self/status; cat /sys/fs/cgroup/pids/pids.max"
    options = ("--user=1000:1001", "--cap-drop=all", "--pids-limit=50", "--memory=64m")
    lines = run(podman, *options, "busybox", "sh", "-c", script, check=False).stdout.split("\n")
    assert lines[:2] == ["1000", "1001"]
    assert lines[2].split()[1] == "0" * 16
    if Path("/sys/fs/cgroup/pids").exists():
        assert lines[3] == "50"


def test_a_read_only_root_cannot_be_written(podman: Podman) -> None:
    done = run(podman, "--read-only", "busybox", "sh", "-c", "echo x > /new", check=False)
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr


def test_volumes_are_mounted(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host")
    done = run(podman, "-v", f"{tmp_path}:/data:ro", "busybox", "cat", "/data/file")
    assert done.stdout == "from the host"


def test_a_privileged_container_sees_the_host_s_devices(podman: Podman) -> None:
    inside = run(podman, "--privileged", "busybox", "ls", "/dev").stdout.split()
    assert {"null", "zero", "tty"} <= set(inside)
    assert len(inside) > len(run(podman, "busybox", "ls", "/dev").stdout.split())


def test_exec_runs_in_the_container(podman: Podman, sleeper: str) -> None:
    done = podman("exec", sleeper, "sh", "-c", "cat /proc/1/comm; exit 5", check=False)
    assert (done.stdout, done.returncode) == ("sh\n", 5)
    assert (
        podman("exec", "-t", sleeper, "sh", "-c", "test -t 0 && echo yes").stdout.strip() == "yes"
    )
    assert podman("exec", "-u", "7:8", sleeper, "id", "-u").stdout == "7\n"


def test_exec_of_nothing_is_127(podman: Podman, sleeper: str) -> None:
    assert podman("exec", sleeper, "no-such-program", check=False).returncode == 127


def test_stop_lets_the_program_end(podman: Podman, sleeper: str) -> None:
    podman("stop", "--time", "20", sleeper)
    state = json.loads(podman("inspect", sleeper).stdout)[0]["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)


def test_a_stopped_container_starts_again(podman: Podman, sleeper: str) -> None:
    podman("stop", "--time", "20", sleeper)
    podman("start", sleeper)
    assert json.loads(podman("inspect", sleeper).stdout)[0]["State"]["Status"] == "running"


def test_kill_sends_the_signal(podman: Podman, sleeper: str) -> None:
    podman("kill", "--signal", "KILL", sleeper)
    assert podman("wait", sleeper).stdout.strip() == "137"


def test_pause_and_unpause(podman: Podman, sleeper: str) -> None:
    podman("pause", sleeper)
    assert json.loads(podman("inspect", sleeper).stdout)[0]["State"]["Status"] == "paused"
    podman("unpause", sleeper)
    assert json.loads(podman("inspect", sleeper).stdout)[0]["State"]["Status"] == "running"


def test_top_and_stats_find_the_processes(podman: Podman, sleeper: str) -> None:
    assert "sh -c" in podman("top", sleeper).stdout
    stats = json.loads(podman("stats", "--no-stream", "--format=json", sleeper).stdout)
    assert int(stats[0]["pids"]) >= 1


def test_a_health_check_runs(podman: Podman) -> None:
    name = podman(
        *("run", "-d", "--network=none", "--health-cmd", "true", "--health-interval=disable"),
        *("busybox", "sleep", "100"),
    ).stdout.strip()
    podman("healthcheck", "run", name)
    podman("rm", "--force", "--time", "0", name)


def test_a_pod_shares_namespaces(podman: Podman, sleeper: str) -> None:
    script = "stat -L -c %i /proc/self/ns/ipc"
    other = run(podman, f"--ipc=container:{sleeper}", "busybox", "sh", "-c", script).stdout
    assert other == podman("exec", sleeper, "sh", "-c", script).stdout


def test_nothing_is_left_after_removal(podman: Podman, sleeper: str) -> None:
    podman("rm", "--force", "--time", "0", sleeper)
    state = Path(f"/run/sampan-runtime/{sleeper}")

    def left() -> list[Path]:
        groups = Path("/sys/fs/cgroup").glob(f"*/**/libpod-{sleeper}")
        return [*groups, *state.parent.glob(sleeper)]

    eventually(lambda: not left())  # conmon's own cleaning up may still be under way


def test_podman_knows_the_version_of_the_runtime(podman: Podman) -> None:
    info = json.loads(podman("info", "--format=json").stdout)
    assert "sampan-runtime version" in info["host"]["ociRuntime"]["version"]
