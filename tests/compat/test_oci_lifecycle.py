"""The commands of the OCI life cycle, asked of `sampan-runtime` from outside."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundle import RUNTIME, Box
from tests.session import PATIENCE

pytestmark = [
    pytest.mark.compat,
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.clean()


# --- the life cycle ----------------------------------------------------------------------------


def test_a_container_is_created_started_stopped_deleted(box: Box) -> None:
    box.create("echo done; exit 0")
    assert box.state()["status"] == "created"
    assert (box.home / "output").read_text() == ""
    box("start", box.id)
    box.wait_for("stopped")
    assert (box.home / "output").read_text() == "done\n"
    assert box.state()["pid"] == 0
    box("delete", box.id)
    assert "does not exist" in box("state", box.id, check=False).stderr


def test_the_state_says_what_the_specification_demands(box: Box) -> None:
    box.spec["annotations"] = {"org.example.key": "value"}
    box.create()
    state = box.state()
    assert state["id"] == box.id
    assert state["ociVersion"] == box.spec["ociVersion"]
    assert state["bundle"] == str(box.home)
    assert state["annotations"] == {"org.example.key": "value"}
    assert Path(f"/proc/{state['pid']}").exists()


def test_the_interpreter_cannot_be_written_through_a_container_cve_2019_5736(box: Box) -> None:
    box.create()
    with open(f"/proc/{box.state()['pid']}/exe", "rb") as interpreter:
        assert os.fstatvfs(interpreter.fileno()).f_flag & os.ST_RDONLY
        assert os.fstat(interpreter.fileno()).st_dev != os.stat(sys.executable).st_dev


@pytest.mark.parametrize("arguments", [("create",), ("state",), ("start",), ("kill",), ("delete",)])
def test_a_command_without_an_id_is_an_error(box: Box, arguments: tuple[str, ...]) -> None:
    assert box(*arguments, check=False).returncode == 1


def test_an_id_is_unique(box: Box) -> None:
    box.create()
    again = box.create(check=False)
    assert again.returncode == 1
    assert "container with given ID already exists" in again.stderr
    assert box.state()["status"] == "created"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ä"])
def test_an_id_that_is_no_name_is_refused(box: Box, name: str) -> None:
    box.write()
    done = box("create", "--bundle", str(box.home), name, check=False)
    assert (done.returncode, "invalid container ID format" in done.stderr) == (1, True)


def test_only_a_created_container_starts(box: Box) -> None:
    box.create()
    box("start", box.id)
    assert "already running" in box("start", box.id, check=False).stderr
    box("kill", box.id, "KILL")
    box.wait_for("stopped")
    assert "has stopped" in box("start", box.id, check=False).stderr


def test_a_running_container_is_deleted_by_force_alone(box: Box) -> None:
    box.create()
    box("start", box.id)
    refused = box("delete", box.id, check=False)
    assert (refused.returncode, "not stopped: running" in refused.stderr) == (1, True)
    box("delete", "--force", box.id)
    box("delete", "--force", box.id)


def test_a_stopped_container_takes_no_signal(box: Box) -> None:
    box.create("true")
    box("start", box.id)
    box.wait_for("stopped")
    assert "container not running" in box("kill", box.id, check=False).stderr


@pytest.mark.parametrize("name", ["USR1", "SIGUSR1", "10"])
def test_a_signal_has_a_name_or_a_number(box: Box, name: str) -> None:
    box.create("trap 'echo got; exit 0' USR1; echo ready; while :; do sleep 0.05; done")
    box("start", box.id)
    while "ready" not in (box.home / "output").read_text():
        time.sleep(0.01)
    box("kill", box.id, name)
    box.wait_for("stopped")
    assert "got" in (box.home / "output").read_text()


def test_a_change_of_the_configuration_after_create_has_no_effect(box: Box) -> None:
    box.create("echo first")
    box.spec["process"]["args"] = ["/bin/sh", "-c", "echo second"]
    box.write()
    box("start", box.id)
    box.wait_for("stopped")
    assert (box.home / "output").read_text() == "first\n"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("process", "args"), [], "args must not be empty"),
        (("process", "cwd"), "relative", "Cwd must be an absolute path"),
        (("process", "cwd"), "", "Cwd property must not be empty"),
        (("ociVersion",), "nonsense", "is no valid version"),
        (("ociVersion",), "2.0.0", "is not supported"),
        (("root", "path"), "nowhere", "invalid rootfs"),
        (
            ("process", "rlimits"),
            [{"type": "RLIMIT_X", "soft": 1, "hard": 1}],
            "invalid rlimit type",
        ),
        (("linux", "sysctl"), {"kernel.panic": "1"}, "is not in a separate kernel namespace"),
        (("linux", "namespaces"), [{"type": "pid", "path": "/nix"}], "/nix"),
        (("process", "args"), ["/no-such"], "no such file or directory"),
    ],
)
def test_a_specification_that_cannot_be_carried_out_leaves_nothing(
    box: Box, place: tuple[str, ...], value: object, message: str
) -> None:
    target = box.spec
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    box.write()
    done = box("create", "--bundle", str(box.home), box.id, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (box.root / box.id).exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{box.id}"))


def test_unknown_properties_are_ignored(box: Box) -> None:
    box.spec["unknown"] = box.spec["linux"]["unknown"] = {"a": 1}
    assert box.run("echo ok").stdout == "ok\n"


# --- run and exec ------------------------------------------------------------------------------


def test_run_returns_the_exit_status_and_cleans_up(box: Box) -> None:
    assert box.run("exit 7", check=False).returncode == 7
    assert box("list", "--quiet").stdout == ""


def test_run_says_128_and_the_signal(box: Box) -> None:
    box.spec["linux"]["namespaces"] = [
        each for each in box.spec["linux"]["namespaces"] if each["type"] != "pid"
    ]
    assert box.run("kill -KILL $$", check=False).returncode == 137


def test_run_hands_signals_on(box: Box) -> None:
    box.spec["process"]["args"] = [
        "/bin/sh",
        "-c",
        "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done",
    ]
    box.write()
    command = [str(RUNTIME), "--root", str(box.root), "run", "--bundle", str(box.home), box.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 9


def test_exec_runs_beside_the_program(box: Box) -> None:
    box.create()
    box("start", box.id)
    done = box(
        "exec",
        "--env",
        "X=y",
        "--cwd",
        "/tmp",
        box.id,
        "sh",
        "-c",
        "echo $X; pwd; exit 4",
        check=False,
    )
    assert (done.stdout, done.returncode) == ("y\n/tmp\n", 4)
    assert box("exec", "-u", "5:6", "-g", "7", box.id, "id", "-G").stdout == "6 7\n"


def test_exec_takes_a_process_document(box: Box) -> None:
    box.create()
    box("start", box.id)
    process = dict(box.spec["process"], args=["/bin/sh", "-c", "echo $0 $A"], env=["A=b"])
    (box.home / "process.json").write_text(json.dumps(process))
    assert box("exec", "--process", str(box.home / "process.json"), box.id).stdout == "/bin/sh b\n"


def test_a_failed_exec_is_255(box: Box) -> None:
    box.create()
    box("start", box.id)
    done = box("exec", box.id, "/no-such", check=False)
    assert (done.returncode, "no such file" in done.stderr) == (255, True)
    box("kill", box.id, "KILL")
    box.wait_for("stopped")
    assert "cannot exec in a stopped container" in box("exec", box.id, "true", check=False).stderr


def test_descriptors_are_handed_on_when_asked(box: Box) -> None:
    box.spec["process"]["args"] = ["/bin/sh", "-c", "echo through >&3"]
    box.write()
    reader, writer = os.pipe()
    options = ["run", "--preserve-fds", "1", "--bundle", str(box.home), box.id]
    command = [str(RUNTIME), "--root", str(box.root), *options]
    script = f"import os; os.dup2({writer}, 3); os.execv({command[0]!r}, {command!r})"
    subprocess.run([sys.executable, "-c", script], pass_fds=(writer,), check=True, timeout=60)
    assert os.read(reader, 100) == b"through\n"
    os.close(reader)
    os.close(writer)


def test_a_descriptor_that_is_not_open_cannot_be_handed_on(box: Box) -> None:
    box.write()
    done = box("create", "--preserve-fds", "9", "--bundle", str(box.home), box.id, check=False)
    assert (done.returncode, "unable to preserve fd" in done.stderr) == (1, True)


def test_no_descriptor_is_handed_on_unasked(box: Box) -> None:
    # CVE-2024-21626
    done = box.run("ls /proc/self/fd | wc -l", pass_fds=())
    assert int(done.stdout) == 4  # 0, 1, 2 and the directory itself


def test_a_terminal_comes_through_the_console_socket(box: Box) -> None:
    box.spec["process"]["terminal"] = True
    path = str(box.home / "console")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        box.create("test -t 0 && echo terminal; sleep 100", "--console-socket", path)
        peer, _ = server.accept()
        with peer:
            size = array.array("i", [0]).itemsize
            _, ancillary, _, _ = peer.recvmsg(4096, socket.CMSG_SPACE(size))
    master = array.array("i", ancillary[0][2])[0]
    box("start", box.id)
    assert os.read(master, 100).strip() == b"terminal"
    os.close(master)


def test_the_pid_file_has_the_pid(box: Box) -> None:
    path = box.home / "pid"
    box.create("sleep 100", "--pid-file", str(path))
    assert int(path.read_text()) == box.state()["pid"]
