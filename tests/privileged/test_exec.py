"""One more process in a running container: it gets the container's world, and nothing else."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import CommandNotFound, Conflict, InvalidArgument
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.spec.runtime import (
    ConsoleSize,
    ExecCPUAffinity,
    LinuxCapabilities,
    LinuxIDMapping,
    LinuxNamespace,
    LinuxSeccomp,
    LinuxSyscall,
    Process,
    User,
)
from tests.box import Box, Ended, Running, spec, tty_output

pytestmark = pytest.mark.privileged


@pytest.fixture
def container(box: Box) -> Iterator[Running]:
    """A container that sleeps."""
    running = box.start(spec("sh", "-c", "echo up; exec sleep 60"))
    assert os.read(running.out, 3) == b"up\n"
    running.becomes("sleep")
    yield running
    os.close(running.out)
    os.close(running.err)


def process(*args: str, **more: Any) -> Process:
    """Return a process for an exec."""
    return Process(args=list(args), env=more.pop("env", ["PATH=/bin"]), **more)


def shell(box: Box, container: Running, script: str, **more: Any) -> Ended:
    """Run a shell script in the container."""
    return box.exec(container, process("sh", "-c", script, **more)).end()


def test_an_exec_is_in_every_namespace_of_the_container(box: Box, container: Running) -> None:
    kinds = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
    own = [os.readlink(f"/proc/{container.launched.pid}/ns/{kind}") for kind in kinds]
    assert shell(box, container, script).lines == own


def test_an_exec_sees_the_root_and_the_processes_of_the_container(
    box: Box, container: Running
) -> None:
    ended = shell(box, container, "ls /; cat /proc/1/comm; pwd")
    assert ended.lines[-2:] == ["sleep", "/"]
    assert "rootfs" not in ended.out


def test_an_exec_is_in_the_cgroup_of_the_container(box: Box, container: Running) -> None:
    running = box.exec(container, process("sleep", "60"))
    assert running.launched.pid in open_cgroup(f"/{box.name}").pids()
    os.kill(running.launched.pid, signal.SIGKILL)
    assert running.end().code == -signal.SIGKILL


def test_an_exec_has_its_own_user_capabilities_and_directory(box: Box, container: Running) -> None:
    ended = shell(
        box,
        container,
        "id -u; id -g; pwd; grep -E 'CapEff|CapInh|CapBnd|Groups|NoNew' /proc/self/status",
        user=User(uid=1000, gid=1000, additional_gids=[1000, 5]),
        capabilities=LinuxCapabilities(bounding=["CAP_KILL"]),
        cwd="/tmp",
        no_new_privileges=True,
    )
    assert ended.lines[:3] == ["1000", "1000", "/tmp"]
    status = dict(line.split(":\t", 1) for line in ended.lines[3:])
    assert int(status["CapEff"], 16) == int(status["CapInh"], 16) == 0
    assert int(status["CapBnd"], 16) == 1 << 5
    assert status["Groups"].split() == ["5", "1000"]
    assert status["NoNewPrivs"] == "1"


def test_the_filter_of_the_container_holds_for_an_exec(box: Box, container: Running) -> None:
    profile = LinuxSeccomp(
        default_action="SCMP_ACT_ALLOW",
        syscalls=[LinuxSyscall(names=["mkdir", "mkdirat"], action="SCMP_ACT_ERRNO", errno_ret=95)],
    )
    running = box.exec(container, process("mkdir", "/tmp/x"), seccomp=profile)
    assert "Operation not supported" in running.end().err


def test_an_exec_has_a_terminal_of_the_container(box: Box, container: Running) -> None:
    wanted = process("sh", "-c", "tty; stty size", terminal=True)
    wanted.console_size = ConsoleSize(height=10, width=20)
    running = box.exec(container, wanted)
    assert running.launched.master is not None
    text = tty_output(running.launched.master.number)
    assert text == "/dev/pts/0\r\n10 20\r\n"
    running.launched.master.close()
    running.end()


def test_the_terminal_of_an_exec_goes_to_a_console_socket(box: Box, container: Running) -> None:
    path = str(box.scratch / "console.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        running = box.exec(container, process("echo", "hi", terminal=True), console_socket=path)
        peer, _ = server.accept()
        with peer:
            _, (master,), _, _ = socket.recv_fds(peer, 4096, 1)
        assert tty_output(master) == "hi\r\n"
        os.close(master)
    running.end()


def test_the_exit_code_of_an_exec_reaches_the_caller(box: Box, container: Running) -> None:
    assert shell(box, container, "exit 42").code == 42


def test_a_missing_program_is_named_in_dockers_words(box: Box, container: Running) -> None:
    with pytest.raises(CommandNotFound) as caught:
        box.exec(container, process("nosuch"))
    assert str(caught.value) == 'exec: "nosuch": executable file not found in $PATH'


def test_a_missing_directory_is_not_made_by_an_exec(box: Box, container: Running) -> None:
    with pytest.raises(InvalidArgument, match="no such file or directory"):
        box.exec(container, process("true", cwd="/no/such"))
    assert not (box.root / "no").exists()


def test_an_exec_in_an_ended_container_is_a_conflict(box: Box, container: Running) -> None:
    os.kill(container.launched.pid, signal.SIGKILL)
    os.waitpid(container.launched.pid, 0)
    with pytest.raises(Conflict):
        box.exec(container, process("true"))
    box.running.clear()


def test_an_exec_runs_on_the_cpus_it_asks_for(box: Box, container: Running) -> None:
    cpu = max(os.sched_getaffinity(0))
    affinity = ExecCPUAffinity(initial="0", final=str(cpu))
    script = "grep Cpus_allowed_list /proc/self/status"
    ended = shell(box, container, script, exec_cpu_affinity=affinity)
    assert ended.out.split()[1] == str(cpu)
    with pytest.raises(InvalidArgument, match='invalid CPU list "3-1"'):
        shell(box, container, "true", exec_cpu_affinity=ExecCPUAffinity(initial="3-1"))


def test_an_exec_in_a_paused_container_is_a_conflict(box: Box, container: Running) -> None:
    cgroup = open_cgroup(f"/{box.name}")
    cgroup.freeze()
    try:
        with pytest.raises(Conflict, match="is paused, unpause the container before exec"):
            box.exec(container, process("true"))
    finally:
        cgroup.thaw()


def test_an_exec_in_a_zombie_never_runs_on_the_host(box: Box, container: Running) -> None:
    os.kill(container.launched.pid, signal.SIGKILL)
    os.waitid(os.P_PID, container.launched.pid, os.WEXITED | os.WNOWAIT)
    for more in ({}, {"pidfd": container.launched.pidfd.number}):
        with pytest.raises(Conflict, match="is not running"):
            box.exec(container, process("/bin/true"), **more)


def test_an_exec_is_refused_where_there_is_no_container(box: Box, container: Running) -> None:
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    real = container.launched.pid
    container.launched.pid = pid
    try:
        with pytest.raises(InvalidArgument, match=f"process {pid} is not in a container"):
            box.exec(container, process("/bin/true"))
    finally:
        container.launched.pid = real
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_an_exec_enters_the_user_namespace(box: Box) -> None:
    box.root.chmod(0o755)
    wanted = spec("sh", "-c", "echo up; exec sleep 60")
    assert wanted.linux is not None
    wanted.linux.namespaces.append(LinuxNamespace(type="user"))
    wanted.linux.uid_mappings = [LinuxIDMapping(container_id=0, host_id=200000, size=65536)]
    wanted.linux.gid_mappings = wanted.linux.uid_mappings
    container = box.start(wanted)
    assert os.read(container.out, 3) == b"up\n"
    running = box.exec(container, process("sh", "-c", "echo up; read x </dev/zero"))
    assert os.read(running.out, 3) == b"up\n"
    status = Path(f"/proc/{running.launched.pid}/status").read_text()
    assert "Uid:\t200000\t200000\t200000\t200000\n" in status
    for each in (running, container):
        os.kill(each.launched.pid, signal.SIGKILL)
        each.end()
    box.running.clear()
