"""The supervisor with a child and a helper that are a few lines each."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sampan.daemon.supervisor import FIRST_PAUSE, LONGEST_PAUSE, Backoff
from tests.session import PATIENCE, eventually

# The supervised child notes each socket that it gets and who answers there.
PROGRAM = """
import os, select, signal, socket, sys
from sampan.daemon.services import Helper
from sampan.daemon.supervisor import FAILED, HOPELESS, READY, Supervisor

log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
mode = sys.argv[2]
rope, leash = os.pipe()

def note(*words):
    os.write(log, (" ".join(map(str, words)) + "\\n").encode())

class Echo(Helper):
    def start(self):
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            os.closerange(theirs.fileno() + 1, 100)
            ours.close()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if mode == "survived" and os.fork() == 0:
                os.close(leash)
                os.read(rope, 1)  # until the supervisor has ended
                os._exit(0)
            os.close(leash)
            if mode == "hopeless":
                theirs.close()
                select.select([rope], [], [], 0.3)  # long enough to be taken for one that died
                os._exit(HOPELESS)
            while theirs.recv(100):
                theirs.send(str(os.getpid()).encode())
            os._exit(0)
        theirs.close()
        self.sock = ours

def child(control):
    os.close(leash)
    def stop(*_):
        note("child", "stops")
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    note("child", "is", os.getpid())
    if mode == "broken":
        control.send(FAILED + b"cannot work")
        sys.exit(3)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode != "hopeless":
        control.send(READY)
    while True:
        message, numbers, _, _ = socket.recv_fds(control, 4096, 4)
        if not message:
            note("child", "abandoned")
            sys.exit(0)
        if not numbers:
            note("child", message.decode())
            continue
        sock = socket.socket(fileno=numbers[0])
        if mode == "hopeless":
            continue
        sock.send(b"who")
        note("helper", message.decode(), sock.recv(100).decode())
        sock.close()

helpers = [Echo("echo", "", [])]
supervisor = Supervisor(child, helpers, [], -4.0, lambda: note("ready"), lambda: b"{}")
code = supervisor.run()
note("end", code)
sys.exit(code)
"""


class Run:
    """A running supervisor and what was noted."""

    def __init__(self, tmp_path: Path, mode: str) -> None:
        self.log = tmp_path / "log"
        self.log.touch()
        self.errors = tmp_path / "errors"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(self.log), mode], stderr=errors
            )

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text().splitlines()]

    def until(self, *words: str, count: int = 1) -> list[str]:
        """Wait for the `count`-th line that begins with `words`, and return it."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = [line for line in self.lines() if line[: len(words)] == list(words)]
            if len(found) >= count:
                return found[count - 1]
            select.select([], [], [], 0.01)
        raise AssertionError(f"{words} did not come: {self.lines()} {self.errors.read_text()}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Run]]:
    runs: list[Run] = []

    def begin(mode: str = "good") -> Run:
        runs.append(Run(tmp_path, mode))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()


def test_a_helper_that_dies_is_started_again_and_handed_to_the_daemon(
    start: Callable[..., Run],
) -> None:
    run = start()
    first = run.until("helper", "echo")[2]
    os.kill(int(first), signal.SIGKILL)
    second = run.until("helper", "echo", count=2)[2]
    assert first != second
    assert len([line for line in run.lines() if line[:2] == ["child", "is"]]) == 1
    assert run.stop() == 0


def test_a_helper_that_dies_is_replaced_even_if_a_child_of_it_keeps_its_socket(
    start: Callable[..., Run],
) -> None:
    run = start("survived")
    first = run.until("helper", "echo")[2]
    os.kill(int(first), signal.SIGKILL)
    assert run.until("helper", "echo", count=2)[2] != first
    assert run.stop() == 0


def test_a_daemon_that_dies_is_started_again_and_finds_the_same_helper(
    start: Callable[..., Run],
) -> None:
    run = start()
    helper = run.until("helper", "echo")[2]
    os.kill(int(run.until("child", "is")[2]), signal.SIGKILL)
    run.until("child", "is", count=2)
    assert run.until("helper", "echo", count=2)[2] == helper
    run.until("ready", count=2)
    assert run.stop() == 0


def test_sigterm_stops_the_daemon_and_then_the_supervisor(start: Callable[..., Run]) -> None:
    run = start()
    helper = int(run.until("helper", "echo")[2])
    assert run.stop() == 0
    assert run.lines()[-2:] == [["child", "stops"], ["end", "0"]]
    eventually(lambda: not os.path.exists(f"/proc/{helper}/exe"))


def test_a_daemon_that_ignores_sigterm_is_killed_in_the_end(start: Callable[..., Run]) -> None:
    run = start("stubborn")
    run.until("helper", "echo")
    assert run.stop() == 0


def test_sighup_passes_the_configuration_to_the_daemon(start: Callable[..., Run]) -> None:
    run = start()
    run.until("helper", "echo")
    run.process.send_signal(signal.SIGHUP)
    run.until("child", "reload", "{}")
    assert run.stop() == 0


def test_a_daemon_that_never_works_is_not_started_again(start: Callable[..., Run]) -> None:
    run = start("broken")
    assert run.process.wait(PATIENCE) == 3
    assert "cannot work" in run.errors.read_text()
    assert len([line for line in run.lines() if line[:2] == ["child", "is"]]) == 1


def test_a_helper_that_could_never_work_ends_all_with_its_own_words(
    start: Callable[..., Run],
) -> None:
    run = start("hopeless")
    assert run.process.wait(PATIENCE) == 1
    assert not run.errors.read_text()
    assert len([line for line in run.lines() if line[:2] == ["child", "is"]]) == 1


def test_a_daemon_without_its_supervisor_ends(start: Callable[..., Run]) -> None:
    run = start()
    run.until("ready")  # what it has not read when it dies would be told as a reset
    run.process.kill()
    run.until("child", "abandoned")


def test_restarts_wait_longer_and_longer() -> None:
    backoff = Backoff()
    pauses = [backoff.next() for _ in range(12)]
    assert pauses[:3] == [0.0, FIRST_PAUSE, 2 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
