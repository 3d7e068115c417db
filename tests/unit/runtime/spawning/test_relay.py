"""Streams between pipes, logs and clients; no container is needed for that."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sampan.logs.files import LogWriter, open_writer
from sampan.logs.stream import FrameReader
from sampan.runtime.spawner import Streams
from sampan.runtime.spawning.journal import Journal
from sampan.runtime.spawning.loop import Loop
from sampan.runtime.spawning.messages import Drained, Message, StdinClosed
from sampan.runtime.spawning.relay import Relay
from sampan.runtime.spawning.tasks import Task, TaskRecord
from tests.session import PATIENCE

ID = "d" * 64
KEY = (ID, "")


@dataclass
class Program:
    """The program's ends of the streams, and the relay between them and us."""

    relay: Relay
    task: Task
    stdin: int
    stdout: int
    stderr: int
    told: list[Message] = field(default_factory=list)
    clients: list[socket.socket] = field(default_factory=list)

    def turn(self, times: int = 20) -> None:
        for _ in range(times):
            self.relay.loop.later(0, lambda: None)
            self.relay.loop.turn()

    def attach(self, *, stdin: bool = False, wants: tuple[int, ...] = (1, 2)) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.relay.attach(KEY, theirs, frozenset(wants), stdin=stdin)
        self.clients.append(ours)
        return ours

    def start(self) -> None:
        self.relay.hub(KEY).start(self.task)

    def close(self, *names: str) -> None:
        for name in names or ("stdin", "stdout", "stderr"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)

    def end(self) -> None:
        self.task.record.finished_at = 1
        self.close()
        self.relay.hub(KEY).end()


Make = Callable[..., Program]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Program] = []

    def build(**streams: bool) -> Program:
        journal, loop = Journal(tmp_path / "journal"), Loop()
        told: list[Message] = []

        def open_log(record: TaskRecord) -> LogWriter | None:
            return open_writer(tmp_path, ID, "json-file", {}, {}, os.getgid())

        pairs = [os.pipe() for _ in range(3)]
        ours = [pairs[0][1], pairs[1][0], pairs[2][0]]
        for descriptor in ours:
            os.set_blocking(descriptor, False)
        record = TaskRecord(
            id=ID,
            pid=1,
            start_time=0,
            boot_id="",
            started_at=0,
            streams=Streams(log_driver="json-file", **streams),  # type: ignore[arg-type]
            slot=0,
        )
        program = Program(
            Relay(loop, journal, told.append, open_log),
            Task(record, stdin=ours[0], stdout=ours[1], stderr=ours[2]),
            pairs[0][0],
            pairs[1][1],
            pairs[2][1],
            told,
        )
        made.append(program)
        return program

    yield build
    for program in made:
        program.close()
        program.relay.remove(KEY)
        program.turn()
        for client in program.clients:
            client.close()
        program.relay.abandon()
        program.relay.loop.close()


def received(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(1 << 20):
            data += piece
    except BlockingIOError:
        pass
    return data


def payload(frames: bytes) -> bytes:
    return b"".join(data for _, data in FrameReader().feed(frames))


def test_output_goes_to_log_and_clients(make: Make, tmp_path: Path) -> None:
    program = make()
    client = program.attach()
    program.start()
    os.write(program.stdout, b"hello\n")
    program.turn()
    assert payload(received(client)) == b"hello\n"
    assert b'"log":"hello\\n"' in (tmp_path / f"{ID}-json.log").read_bytes()


def test_the_end_is_told_once_when_all_is_delivered(make: Make) -> None:
    program = make()
    client = program.attach()
    program.start()
    os.write(program.stderr, b"last words")
    program.end()
    assert program.told == [Drained(id=ID, exec_id="")]
    assert payload(received(client)) == b"last words"
    assert client.recv(1) == b""


@pytest.mark.slow
def test_a_full_client_pauses_the_program_and_loses_nothing(make: Make) -> None:
    program = make()
    client = program.attach()
    program.start()
    os.set_blocking(program.stdout, False)
    sent = 0
    for _ in range(200):
        try:
            sent += os.write(program.stdout, b"x" * 65536)
        except BlockingIOError:
            pass
        program.turn(3)
    assert sent < 2_000_000
    frames = b""
    for _ in range(50):
        frames += received(client)
        program.turn(3)
    assert len(payload(frames)) == sent


def test_one_slow_client_does_not_garble_another(make: Make) -> None:
    program = make()
    slow, quick = program.attach(), program.attach()
    program.start()
    os.set_blocking(program.stdout, False)
    data, sent, fast = os.urandom(65536), 0, b""
    for _ in range(20):
        try:
            sent += os.write(program.stdout, data)
        except BlockingIOError:
            pass
        program.turn(3)
        fast += received(quick)
    late = b""
    for _ in range(50):
        late += received(slow)
        program.turn(3)
        fast += received(quick)
    assert payload(late) == payload(fast)
    assert len(payload(late)) == sent


def test_input_waits_until_the_program_reads(make: Make) -> None:
    program = make(open_stdin=True, stdin_once=True)
    client = program.attach(stdin=True)
    client.setblocking(True)
    client.settimeout(PATIENCE)
    program.start()
    client.sendall(b"i" * 100_000)
    client.shutdown(socket.SHUT_WR)
    got = b""
    for _ in range(50):
        program.turn(3)
        os.set_blocking(program.stdin, False)
        try:
            got += os.read(program.stdin, 1 << 20)
        except BlockingIOError:
            pass
    assert got == b"i" * 100_000
    assert program.told == [StdinClosed(id=ID, exec_id="")]
    assert os.read(program.stdin, 1) == b""


def test_input_before_the_start_is_kept(make: Make) -> None:
    program = make(open_stdin=True, stdin_once=True)
    client = program.attach(stdin=True)
    client.sendall(b"early")
    program.turn()
    program.start()
    program.turn()
    assert os.read(program.stdin, 100) == b"early"


def test_a_client_that_leaves_before_the_start_leaves_no_hub(make: Make) -> None:
    program = make()
    program.attach().close()
    program.turn()
    assert program.relay.hubs == {}
    assert program.relay.clients == set()


def test_a_program_that_closed_its_input_does_not_block_clients(make: Make) -> None:
    program = make(open_stdin=True)
    client = program.attach(stdin=True)
    client.setblocking(True)
    client.settimeout(PATIENCE)
    program.start()
    program.close("stdin")
    for _ in range(30):
        client.sendall(b"n" * 20_000)
        program.turn(3)
    os.write(program.stdout, b"fine\n")
    program.turn()
    client.setblocking(False)
    assert payload(received(client)) == b"fine\n"


def test_idle_streams_wake_nobody(make: Make) -> None:
    program = make(open_stdin=True)
    program.attach(stdin=True)
    ended = program.attach(stdin=True, wants=())
    ended.shutdown(socket.SHUT_WR)
    program.start()
    program.turn()
    assert program.relay.loop._epoll.poll(0) == []


def test_input_that_nobody_reads_does_not_take_the_end_from_the_client(make: Make) -> None:
    program = make()
    client = program.attach(stdin=True)
    client.sendall(b"ignored")
    program.start()
    os.write(program.stdout, b"over")
    program.end()
    program.turn()
    assert [payload for _, payload in FrameReader().feed(client.recv(1 << 16))] == [b"over"]
    assert client.recv(1 << 16) == b""
