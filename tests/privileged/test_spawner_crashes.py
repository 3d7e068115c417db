"""What survives when halves of the spawner are killed. The promise: nothing is lost but clients."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.engine.doctor.host_probes import HostProbes
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.runtime.spawner import Streams
from sampan.runtime.spawning.tasks import StateFiles
from sampan.spec.names import new_id
from tests.session import PATIENCE, containers, eventually
from tests.spawner import Harness, readable, running

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

ROOMY = Streams(log_driver="json-file", log_options={"max-size": "1g"})
LINES = 400_000
EXPECTED = b"".join(b"%d\n" % number for number in range(1, LINES + 1))


@pytest.fixture
def spawner() -> Iterator[Harness]:
    with running() as harness:
        yield harness


def kill(pid: int) -> None:
    """Kill one process and wait until it is gone or a zombie."""
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    with open(pidfd, closefd=True):
        assert readable_number(pidfd)


def readable_number(descriptor: int) -> bool:
    from sampan.rpc import Fd

    return readable(Fd(descriptor), PATIENCE)


def kill_both(spawner: Harness) -> None:
    keeper, forker = spawner.keeper(), spawner.forker()
    os.kill(keeper, signal.SIGSTOP)  # so that it makes no new forker
    kill(forker)
    kill(keeper)


def flood(spawner: Harness) -> str:
    return spawner.start("/bin/sh", "-c", f"seq 1 {LINES}; exit 9", streams=ROOMY)


def flood_until_told(spawner: Harness) -> str:
    """Start what does not end before `tell_to_end`, however slow this test is."""
    script = f"seq 1 {LINES}; until [ -e /told ]; do sleep 0.01; done; exit 9"
    return spawner.start("/bin/sh", "-c", script, streams=ROOMY)


def tell_to_end(spawner: Harness) -> None:
    (spawner.folder / "root/told").touch()


def grown(spawner: Harness, container: str, least: int = 1) -> None:
    """Wait until the log is longer by some lines."""
    path = spawner.folder_of(container) / f"{container}-json.log"
    before = size(path)
    while size(path) < before + least and not readable(spawner.started[-1].pidfd):
        time.sleep(0.001)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_a_killed_keeper_costs_no_line_and_no_exit_code(spawner: Harness) -> None:
    container = flood(spawner)
    for _ in range(3):
        grown(spawner, container)
        kill(spawner.keeper())
    assert readable(spawner.started[-1].pidfd, PATIENCE)
    status = spawner.end(container)
    assert (status.exit_code, status.lost) == (9, "")
    assert spawner.logged(container) == EXPECTED


def test_a_killed_forker_costs_no_line_and_no_exit_code(spawner: Harness) -> None:
    container = flood(spawner)
    grown(spawner, container)
    kill(spawner.forker())
    spawner.reconnect()
    status = spawner.end(container)
    assert (status.exit_code, status.lost) == (9, "")
    assert spawner.logged(container) == EXPECTED


def test_both_in_turn_may_die(spawner: Harness) -> None:
    container = flood(spawner)
    for kind in ("keeper", "forker", "keeper"):
        grown(spawner, container)
        kill(spawner.keeper() if kind == "keeper" else spawner.forker())
        spawner.forker()  # wait until it has come back
    spawner.reconnect()
    assert spawner.end(container).exit_code == 9
    assert spawner.logged(container) == EXPECTED


def test_when_both_are_gone_the_next_spawner_finds_pipes_and_exit_code(spawner: Harness) -> None:
    container = flood_until_told(spawner)
    grown(spawner, container)
    kill_both(spawner)
    spawner.connection.close()
    spawner.open()
    tell_to_end(spawner)
    status = spawner.end(container)
    knows = not HostProbes().pidfd_info()  # since Linux 6.15
    assert status.exit_code == (9 if knows else None)
    assert "restarted" in status.lost
    assert spawner.logged(container) == EXPECTED


def test_an_unfinished_line_survives_the_keeper(spawner: Harness) -> None:
    container = new_id()
    client = spawner.attach(container)
    command = "printf 'begin '; read x; echo end"
    streams = Streams(log_driver="json-file", open_stdin=True)
    spawner.start("/bin/sh", "-c", command, streams=streams, id=container)
    client.until(b"begin ")
    kill(spawner.keeper())
    assert client.rest() == b""
    spawner.reconnect()
    second = spawner.attach(container, stdin=True)
    second.sock.sendall(b"\n")
    assert spawner.end(container).exit_code == 0
    assert spawner.logged(container) == b"begin end\n"
    second.sock.close()


def test_a_terminal_survives_either_half(spawner: Harness) -> None:
    streams = Streams(terminal=True, open_stdin=True, rows=24, columns=80)
    container = spawner.start("/bin/sh", streams=streams)
    for half in (spawner.keeper, spawner.forker):
        kill(half())
        spawner.reconnect()
        client = spawner.attach(container, stdin=True)
        client.sock.sendall(b"echo a''live\n")
        client.until(b"alive\r\n")
        client.sock.close()
    client = spawner.attach(container, stdin=True)
    client.sock.sendall(b"exit 3\n")
    assert spawner.end(container).exit_code == 3
    client.sock.close()


def test_a_client_survives_the_forker(spawner: Harness) -> None:
    container = new_id()
    client = spawner.attach(container, stdin=True)
    streams = Streams(open_stdin=True, stdin_once=True)
    spawner.start("/bin/cat", streams=streams, id=container)
    kill(spawner.forker())
    client.sock.sendall(b"still here\n")
    client.sock.shutdown(socket.SHUT_WR)
    assert client.streams()[1] == b"still here\n"
    spawner.reconnect()
    assert spawner.end(container).exit_code == 0


def test_execs_are_possible_after_every_death(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    for half in (spawner.keeper, spawner.forker):
        kill(half())
        spawner.reconnect()
        exec_id = spawner.exec(container, "/bin/sh", "-c", "exit 5")
        assert spawner.end(container, exec_id).exit_code == 5
    kill_both(spawner)
    spawner.connection.close()
    spawner.open()
    exec_id = spawner.exec(container, "/bin/sh", "-c", "exit 6")
    assert spawner.end(container, exec_id).exit_code == 6


def test_an_end_that_nobody_saw_is_told_as_such(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    pid, pidfd = spawner.started[-1].pid, spawner.started[-1].pidfd
    kill_both(spawner)
    os.kill(pid, signal.SIGKILL)
    assert readable(pidfd, PATIENCE)
    while Path(f"/proc/{pid}").exists():  # until its new parent has collected it
        time.sleep(0.01)
    spawner.connection.close()
    spawner.open()
    status = spawner.spawner.wait(container)
    assert (status.state, status.exit_code) == ("stopped", None)
    assert "exit code is not known" in status.lost


def test_an_exit_code_is_kept_until_it_is_forgotten(spawner: Harness) -> None:
    container = spawner.start("/bin/sh", "-c", "exit 8")
    spawner.end(container)
    kill_both(spawner)
    spawner.connection.close()
    spawner.open()
    assert spawner.end(container).exit_code == 8


def test_an_exit_while_the_keeper_is_replaced_is_seen(spawner: Harness) -> None:
    container = spawner.start("/bin/sh", "-c", "read x", streams=Streams(open_stdin=True))
    forker = spawner.forker()
    os.kill(forker, signal.SIGSTOP)
    spawner.started[-1].pidfd  # noqa: B018
    os.kill(spawner.started[-1].pid, signal.SIGKILL)
    assert readable(spawner.started[-1].pidfd, PATIENCE)
    kill(spawner.keeper())
    os.kill(forker, signal.SIGCONT)
    spawner.reconnect()
    assert spawner.end(container).exit_code == 137


def test_a_start_that_a_crash_interrupts_leaves_nothing(spawner: Harness) -> None:
    container = "a" * 63 + "b"
    folder = spawner.run_root / "runtime" / container
    folder.mkdir()
    (folder / "starting").write_text(f"/sampan/{container}")
    open_cgroup(f"/sampan/{container}").create()
    kill(spawner.forker())
    spawner.reconnect()
    assert not folder.exists()
    assert not open_cgroup(f"/sampan/{container}").exists()


@pytest.mark.parametrize("crash", [lambda spawner: kill(spawner.forker()), kill_both])
def test_a_cgroup_that_was_still_busy_at_the_crash_is_removed(
    spawner: Harness, crash: Callable[[Harness], None]
) -> None:
    container = new_id()
    containers.add(container)
    cgroup = open_cgroup(f"/sampan/{container}")
    cgroup.create()
    with subprocess.Popen(["/bin/sleep", "1000"]) as straggler:
        cgroup.join(straggler.pid)
        StateFiles(spawner.run_root / "runtime").leave(container, cgroup.path)
        crash(spawner)
        spawner.connection.close()
        spawner.open()
        eventually(lambda: not cgroup.exists())
    eventually(lambda: not (spawner.run_root / "runtime" / container).exists())


def test_the_clients_of_another_user_are_refused(spawner: Harness) -> None:
    path = str(spawner.run_root / "spawner.sock")
    assert os.stat(path).st_mode & 0o777 == 0o700
    os.chmod(path, 0o777)
    os.chmod(spawner.folder, 0o755)
    stranger = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
        "s.connect(sys.argv[1]); s.settimeout(10); sys.exit(s.recv(10) != b'')"
    )
    command = ["setpriv", "--reuid=12345", "--clear-groups", "/usr/bin/python3", "-c", stranger]
    assert subprocess.run([*command, path], check=False).returncode == 0
    assert "user 12345 was refused" in spawner.log


def test_a_second_start_on_the_run_root_finds_the_first(spawner: Harness) -> None:
    keeper = spawner.keeper()
    spawner.connection.close()
    spawner.open()
    assert spawner.keeper() == keeper


def test_stop_refuses_while_a_container_runs(spawner: Harness) -> None:
    from sampan.runtime.spawning.finding import stop_spawner

    spawner.start("/bin/sleep", "1000")
    assert not stop_spawner(spawner.data_root, spawner.run_root)
    assert len(spawner.spawner.tasks()) == 1
