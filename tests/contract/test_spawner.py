"""What every spawner promises its caller; asked through the helper, as the daemon does."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sampan.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    InvalidArgument,
    NotFound,
    SampanError,
)
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.runtime import defaults
from sampan.runtime.spawner import Launch, Streams
from sampan.spec.names import new_id
from sampan.spec.runtime import (
    Linux,
    LinuxMemory,
    LinuxNamespace,
    LinuxPids,
    LinuxResources,
    Process,
    Spec,
)
from tests.session import PATIENCE
from tests.spawner import JSON, Harness, readable, running

pytestmark = pytest.mark.privileged

INPUT = Streams(open_stdin=True, stdin_once=True)
TERMINAL = Streams(terminal=True, open_stdin=True, rows=7, columns=33, log_driver="json-file")


@pytest.fixture(scope="module")
def shared() -> Iterator[Harness]:
    with running() as harness:
        yield harness


@pytest.fixture
def spawner(shared: Harness) -> Harness:
    return shared


def test_a_container_runs_and_its_exit_code_is_told(spawner: Harness) -> None:
    container = spawner.start("/bin/sh", "-c", "exit 7")
    status = spawner.end(container)
    assert (status.state, status.exit_code, status.lost) == ("stopped", 7, "")
    assert status.finished_at >= status.started_at > 0


def test_a_killed_process_exits_with_128_and_the_signal(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    spawner.spawner.signal(container, signal=signal.SIGKILL)
    assert spawner.end(container).exit_code == 137


def test_the_pidfd_is_readable_once_the_process_has_ended(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    pidfd = spawner.started[-1].pidfd
    assert not readable(pidfd)
    spawner.spawner.signal(container, signal=signal.SIGKILL, all=True)
    assert readable(pidfd, PATIENCE)


def test_a_missing_program_is_named_and_nothing_is_left(spawner: Harness) -> None:
    container = new_id()
    with pytest.raises(CommandNotFound, match="nosuch"):
        spawner.start("/bin/nosuch", id=container)
    with pytest.raises(NotFound):
        spawner.spawner.wait(container)
    assert not open_cgroup(f"/sampan/{container}").exists()
    assert not (spawner.run_root / "runtime" / container).exists()


def test_a_program_that_cannot_be_executed_is_another_error(spawner: Harness) -> None:
    with pytest.raises(CommandNotExecutable):
        spawner.start("/bin")


def test_a_client_of_a_start_that_failed_sees_the_end(spawner: Harness) -> None:
    container = new_id()
    client = spawner.attach(container)
    with pytest.raises(CommandNotFound):
        spawner.start("/bin/nosuch", id=container)
    assert client.rest() == b""


def test_output_comes_in_frames_to_a_client_that_attached_before_the_start(
    spawner: Harness,
) -> None:
    container = new_id()
    client = spawner.attach(container)
    spawner.start("/bin/sh", "-c", "echo out; echo err >&2", id=container)
    assert client.streams() == {1: b"out\n", 2: b"err\n"}


def test_several_clients_get_the_same_output(spawner: Harness) -> None:
    container = new_id()
    clients = [spawner.attach(container) for _ in range(3)]
    spawner.start("/bin/seq", "1", "1000", id=container)
    expected = b"".join(b"%d\n" % number for number in range(1, 1001))
    assert [client.streams()[1] for client in clients] == [expected] * 3


def test_a_client_may_ask_for_one_stream_only(spawner: Harness) -> None:
    container = new_id()
    fd = spawner.spawner.attach(container, stdin=False, stdout=False, stderr=True)
    with socket.socket(fileno=fd.detach()) as sock:
        spawner.start("/bin/sh", "-c", "echo out; echo err >&2", id=container)
        sock.settimeout(PATIENCE)
        assert sock.recv(100) == struct.pack(">BxxxL", 2, 4) + b"err\n"
        assert sock.recv(100) == b""


def test_wait_answers_after_the_last_output_is_in_the_log(spawner: Harness) -> None:
    container = spawner.start("/bin/seq", "1", "20000")
    spawner.end(container)
    expected = b"".join(b"%d\n" % number for number in range(1, 20001))
    assert spawner.logged(container) == expected


def test_a_last_line_without_newline_is_logged_as_it_is(spawner: Harness) -> None:
    container = spawner.start("/bin/sh", "-c", "printf 'a\\nb'")
    spawner.end(container)
    assert spawner.logged(container) == b"a\nb"


def test_the_end_of_a_clients_input_ends_stdin_once(spawner: Harness) -> None:
    container = new_id()
    client = spawner.attach(container, stdin=True)
    client.sock.sendall(b"hello")
    client.sock.shutdown(socket.SHUT_WR)
    spawner.start("/bin/cat", streams=INPUT, id=container)
    assert client.streams()[1] == b"hello"
    assert spawner.end(container).exit_code == 0


def test_the_end_of_input_only_detaches_the_client_of_an_open_stdin(spawner: Harness) -> None:
    container = new_id()
    streams = Streams(open_stdin=True)
    first, second = spawner.attach(container, stdin=True), spawner.attach(container, stdin=True)
    spawner.start("/bin/cat", streams=streams, id=container)
    first.sock.sendall(b"one\n")
    second.until(b"one\n")
    first.sock.shutdown(socket.SHUT_WR)
    assert first.streams()[1] == b"one\n"
    second.sock.sendall(b"two\n")
    second.until(b"two\n")
    assert spawner.spawner.tasks(container)[0].state == "running"
    spawner.spawner.signal(container, signal=signal.SIGKILL)
    second.sock.close()


def test_much_input_passes_through_without_loss(spawner: Harness) -> None:
    container = new_id()
    client = spawner.attach(container, stdin=True, output=True)
    spawner.start("/bin/wc", "-c", streams=INPUT, id=container)
    client.sock.sendall(b"x" * 3_000_000)
    client.sock.shutdown(socket.SHUT_WR)
    assert client.streams()[1].strip() == b"3000000"


def test_without_open_stdin_the_program_reads_the_end_at_once(spawner: Harness) -> None:
    container = new_id()
    client = spawner.attach(container, stdin=True)
    client.sock.sendall(b"ignored")
    spawner.start("/bin/sh", "-c", "cat; echo over", id=container)
    assert client.streams()[1] == b"over\n"


def test_a_terminal_is_raw_sized_and_can_be_resized(spawner: Harness) -> None:
    container = new_id()
    client = spawner.attach(container, stdin=True)
    spawner.start("/bin/sh", streams=TERMINAL, id=container)
    client.sock.sendall(b"stty size\n")
    client.until(b"7 33\r\n")
    spawner.spawner.resize(container, rows=50, columns=120)
    client.sock.sendall(b"stty size\n")
    client.until(b"50 120\r\n")
    client.sock.sendall(b"exit 3\n")
    assert spawner.end(container).exit_code == 3
    assert b"exit 3" in client.rest()


def test_what_has_no_terminal_cannot_be_resized(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    with pytest.raises(NotFound):
        spawner.spawner.resize(container, rows=1, columns=1)
    with pytest.raises(NotFound):
        spawner.spawner.resize(new_id(), rows=1, columns=1)


def test_an_exec_has_its_own_streams_and_exit_code(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    exec_id = spawner.exec(container, "/bin/sh", "-c", "echo inside; exit 4", streams=Streams())
    assert spawner.end(container, exec_id).exit_code == 4
    states = {task.exec_id: task.state for task in spawner.spawner.tasks(container)}
    assert states == {"": "running", exec_id: "stopped"}
    spawner.spawner.forget(container, exec_id)
    assert [task.exec_id for task in spawner.spawner.tasks(container)] == [""]


def test_an_exec_that_cannot_start_is_refused(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    with pytest.raises(CommandNotFound):
        spawner.exec(container, "/bin/nosuch")
    with pytest.raises(NotFound):
        spawner.exec(new_id(), "/bin/true")
    assert len(spawner.spawner.tasks(container)) == 1


def test_an_exec_does_not_wait_for_a_daemon_it_has_started(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    exec_id = spawner.exec(container, "/bin/sh", "-c", "sleep 1000 & echo done")
    assert spawner.end(container, exec_id).exit_code == 0
    assert len(open_cgroup(f"/sampan/{container}").pids()) == 2


def test_a_paused_container_says_so(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    spawner.spawner.freeze(container, frozen=True)
    assert spawner.spawner.tasks(container)[0].state == "paused"
    spawner.spawner.freeze(container, frozen=False)
    assert spawner.spawner.tasks(container)[0].state == "running"


def test_limits_can_be_changed_while_it_runs(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    spawner.spawner.update(container, LinuxResources(pids=LinuxPids(limit=77)))
    assert open_cgroup(f"/sampan/{container}").statistics().pids_limit == 77


def test_a_container_that_breaks_its_memory_limit_says_so(spawner: Harness) -> None:
    limit = LinuxResources(memory=LinuxMemory(limit=16 << 20, swap=16 << 20))
    container = spawner.start("/bin/sh", "-c", "tail /dev/zero; exit 5", resources=limit)
    oom = spawner.started[-1].oom
    status = spawner.end(container)
    assert status.oom_killed
    assert oom
    assert readable(oom, PATIENCE)


def test_lines_of_a_file_change_in_place_and_what_the_user_edited_stays(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000", files={"hosts": b"one\ntwo\nthree\n"})
    path = spawner.folder / "data" / "containers" / container / "hosts"
    before = path.stat().st_ino
    with path.open("a") as file:
        file.write("edited\n")
    edit = spawner.spawner.edit
    assert edit(container, "hosts", remove=["two"], add=["2", "zwei"])
    assert not edit(container, "hosts", remove=["two"], add=["x"])
    assert edit(container, "hosts", remove=[], add=["last"])
    assert path.read_text() == "one\n2\nzwei\nthree\nedited\nlast\n"
    assert path.stat().st_ino == before
    with pytest.raises(NotFound):
        edit(container, "passwd", remove=[], add=[])
    with pytest.raises(InvalidArgument):
        edit(container, "../hosts", remove=[], add=[])


def test_files_are_written_before_the_start(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000", files={"hosts": b"127.0.0.1 localhost\n"})
    path = spawner.folder_of(container) / "hosts"
    assert path.read_bytes() == b"127.0.0.1 localhost\n"
    assert path.stat().st_mode & 0o7777 == 0o644
    assert spawner.folder_of(container).stat().st_mode & 0o7777 == 0o750


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", "a\0b"])
def test_a_file_name_cannot_lead_out_of_the_folder(spawner: Harness, name: str) -> None:
    with pytest.raises(InvalidArgument):
        spawner.start("/bin/true", files={name: b""})


def test_one_container_runs_once(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    with pytest.raises(Conflict):
        spawner.start("/bin/true", id=container)
    with pytest.raises(Conflict):
        spawner.spawner.forget(container)


def test_an_ended_container_starts_again_and_keeps_its_log(spawner: Harness) -> None:
    container = spawner.start("/bin/echo", "first")
    spawner.end(container)
    client = spawner.attach(container)
    spawner.start("/bin/echo", "second", id=container)
    assert client.streams()[1] == b"second\n"
    spawner.end(container)
    assert spawner.logged(container) == b"first\nsecond\n"


def test_forget_removes_what_there_was(spawner: Harness) -> None:
    container = spawner.start("/bin/true")
    spawner.end(container)
    spawner.spawner.forget(container)
    assert not open_cgroup(f"/sampan/{container}").exists()
    assert spawner.folder_of(container).exists()
    with pytest.raises(NotFound):
        spawner.spawner.wait(container)
    spawner.spawner.forget(container, remove=True)
    assert not spawner.folder_of(container).exists()


def test_signals_to_what_has_ended_are_refused(spawner: Harness) -> None:
    container = spawner.start("/bin/true")
    spawner.end(container)
    with pytest.raises(Conflict, match="is not running"):
        spawner.spawner.signal(container, signal=signal.SIGTERM)
    with pytest.raises(NotFound, match="No such container"):
        spawner.spawner.signal(new_id(), signal=signal.SIGTERM)


@pytest.mark.parametrize("id", ["../../etc", "", "A" * 64, "a" * 63])
def test_an_id_is_64_hexadecimal_digits(spawner: Harness, id: str) -> None:
    spec = Spec(process=Process(args=["/bin/true"]))
    with spawner.root() as root, pytest.raises(InvalidArgument):
        spawner.spawner.start(Launch(id=id, spec=spec, streams=JSON), root)
    with pytest.raises(InvalidArgument):
        spawner.spawner.attach(id, stdin=False, stdout=True, stderr=True)
    with pytest.raises(SampanError):
        spawner.spawner.forget(id, remove=True)


def test_a_restarted_daemon_finds_its_containers(spawner: Harness) -> None:
    container = spawner.start("/bin/sh", "-c", "read line; echo got $line; exit 6", streams=INPUT)
    spawner.connection.close()
    spawner.reconnect()
    assert [task.state for task in spawner.spawner.tasks(container)] == ["running"]
    fresh = spawner.spawner.pidfd(container)
    client = spawner.attach(container, stdin=True)
    client.sock.sendall(b"it\n")
    assert client.streams()[1] == b"got it\n"
    assert readable(fresh.pidfd, PATIENCE)
    assert spawner.end(container).exit_code == 6
    fresh.pidfd.close()
    if fresh.oom:
        fresh.oom.close()


def test_thrown_packets_do_not_end_the_spawner(spawner: Harness) -> None:
    for packet in (b"i", b"i\xc1", b"x" * 100, b"m", b"i\xa1\xff", os.urandom(500)):
        spawner.connection.send(packet)
    assert isinstance(spawner.spawner.tasks(), list)


def test_a_user_is_looked_up_in_the_containers_own_files(spawner: Harness) -> None:
    etc = spawner.folder / "root/etc"
    (etc / "passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/home/app:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\napp:x:1235:\nextra:x:77:\n")
    container = new_id()
    client = spawner.attach(container)
    spec = Spec(
        process=Process(args=["/bin/sh", "-c", "id; echo $HOME"], env=["PATH=/bin"]),
        mounts=defaults.mounts(),
        linux=Linux(namespaces=[LinuxNamespace(type="pid"), LinuxNamespace(type="mount")]),
    )
    launch = Launch(id=container, spec=spec, streams=JSON, user="app", groups=["extra"])
    with spawner.root() as root:
        spawner.ids.append(container)
        spawner.started.append(spawner.spawner.start(launch, root))
    output = client.streams()[1].decode()
    assert "uid=1234(app) gid=1235(app)" in output
    assert "77(extra)" in output
    assert output.endswith("/home/app\n")


def test_an_unknown_user_is_refused(spawner: Harness) -> None:
    spec = Spec(process=Process(args=["/bin/true"]))
    launch = Launch(id=new_id(), spec=spec, streams=JSON, user="nobody-here")
    with spawner.root() as root, pytest.raises(InvalidArgument, match="unable to find user"):
        spawner.spawner.start(launch, root)


def test_the_root_of_a_running_container_can_be_looked_at(spawner: Harness) -> None:
    container = spawner.start("/bin/sh", "-c", "echo inside > /tmp/x; exec sleep 1000")
    exec_id = spawner.exec(container, "/bin/sh", "-c", "until [ -e /tmp/x ]; do :; done")
    spawner.end(container, exec_id)
    with spawner.spawner.root(container) as root:
        assert os.listdir(f"/proc/self/fd/{root.number}/tmp") == ["x"]
    spawner.spawner.signal(container, signal=signal.SIGKILL)
    spawner.end(container)
    with pytest.raises(Conflict):
        spawner.spawner.root(container)


def test_missing_folders_of_binds_are_made(spawner: Harness) -> None:
    wanted = spawner.folder / "made/by/start"
    spec = Spec(process=Process(args=["/bin/nosuch"]), mounts=defaults.mounts())
    launch = Launch(id=new_id(), spec=spec, streams=JSON, make_sources=[str(wanted)])
    with spawner.root() as root, pytest.raises(SampanError):
        spawner.spawner.start(launch, root)
    assert wanted.is_dir()


def test_clients_of_an_exec_that_never_came_are_let_go(spawner: Harness) -> None:
    container = spawner.start("/bin/sleep", "1000")
    exec_id = new_id()
    client = spawner.attach(container, exec_id)
    spawner.spawner.forget(container, exec_id)
    assert client.rest() == b""


def test_many_calls_at_once_are_answered(spawner: Harness) -> None:
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: spawner.start("/bin/echo", "x"), range(24)))
        codes = list(pool.map(lambda name: spawner.end(name).exit_code, names))
    assert codes == [0] * 24


def test_only_namespaces_of_containers_are_joined(spawner: Harness) -> None:
    """A pid is a number: that of a process of the host would give a container the host's."""
    spec = Spec(process=Process(args=["true"], env=["PATH=/bin"]), mounts=defaults.mounts())
    with spawner.root() as root, pytest.raises(Conflict, match="of a non running container"):
        launch = Launch(id=new_id(), spec=spec, streams=Streams(), pull_in={"ipc": os.getpid()})
        spawner.spawner.start(launch, root)
