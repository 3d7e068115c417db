"""Sessions of our command line with real containers: terminals, signals, streams, detaching."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from tests.daemon import Daemon
from tests.session import PATIENCE, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.compat, pytest.mark.slow]

SAMPAN = f"{sys.prefix}/bin/sampan"
PROMPT = "/ # "
Console = Callable[..., "pexpect.spawn[bytes]"]


@pytest.fixture
def console(daemon: Daemon) -> Iterator[Console]:
    """Start a command line on a terminal, as a person does."""
    opened: list[pexpect.spawn] = []

    def console(*arguments: str, size: tuple[int, int] = (24, 80)) -> pexpect.spawn:
        child = pexpect.spawn(
            SAMPAN, list(arguments), env=daemon.environment, timeout=PATIENCE, dimensions=size
        )
        opened.append(child)
        return child

    yield console
    for child in opened:
        child.close(force=True)


@pytest.fixture
def sampan(daemon: Daemon) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    def sampan(*arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [SAMPAN, *arguments],
            env=daemon.environment,
            input=input,
            capture_output=True,
            timeout=60,
            check=False,
        )

    return sampan


Sampan = Callable[..., subprocess.CompletedProcess[bytes]]


def status(child: pexpect.spawn) -> int:
    child.expect(pexpect.EOF)
    child.close()
    found: int = child.exitstatus
    return found


def test_the_terminal_has_our_size_and_follows_it(console: Console) -> None:
    child = console("run", "-it", "--rm", "busybox", "sh", size=(31, 97))
    child.expect(PROMPT)
    child.sendline("stty size")
    child.expect("31 97\r\n")
    child.setwinsize(40, 120)
    child.expect(PROMPT)
    child.sendline("until stty size | grep '40 120'; do sleep 0.1; done")
    child.expect("40 120\r\n")
    child.sendline("exit 5")
    assert status(child) == 5


def test_the_detach_keys_leave_the_container_running(console: Console, sampan: Sampan) -> None:
    child = console("run", "-it", "--name", "left", "busybox", "sh")
    child.expect(PROMPT)
    child.send("\x10\x11")
    assert status(child) == 0
    child = console("attach", "left")
    child.sendline("echo $((40 + 2))")
    child.expect("42")
    child.send("\x10\x11")
    child.expect("read escape sequence")
    assert status(child) == 1
    child = console("attach", "--detach-keys", "ctrl-a,d", "left")
    child.sendline("echo $((40 + 3))")
    child.expect("43")
    child.send("\x01d")
    child.expect("read escape sequence")
    assert status(child) == 1
    assert sampan("inspect", "-f", "{{.State.Running}}", "left").stdout == b"true\n"


def test_exec_on_a_terminal(console: Console, sampan: Sampan) -> None:
    assert sampan("run", "-d", "--name", "host", "busybox", "sleep", "1000").returncode == 0
    child = console("exec", "-it", "host", "sh", size=(30, 90))
    child.expect(PROMPT)
    child.sendline("stty size")
    child.expect("30 90\r\n")
    child.sendline("tty; exit 3")
    child.expect("/dev/pts")
    assert status(child) == 3


def test_the_terminal_is_as_it_was_afterwards(console: Console, daemon: Daemon) -> None:
    shell = pexpect.spawn("sh", env=daemon.environment | {"PS1": "host> "}, timeout=PATIENCE)
    shell.expect("host> ")
    shell.sendline(f"{SAMPAN} run -it --rm busybox true; stty -a | grep -o ' icanon'")
    shell.expect(" icanon")
    shell.close(force=True)


def test_a_command_that_is_terminated_sets_the_terminal_back(
    daemon: Daemon, sampan: Sampan
) -> None:
    assert sampan("run", "-d", "--name", "host", "busybox", "sleep", "1000").returncode == 0
    master, slave = os.openpty()
    try:
        with subprocess.Popen(
            [SAMPAN, "exec", "-it", "host", "sh"],
            env=daemon.environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        ) as process:
            eventually(lambda: not termios.tcgetattr(slave)[3] & termios.ICANON)
            process.terminate()
        assert process.returncode == 143
        assert termios.tcgetattr(slave)[3] & termios.ICANON
    finally:
        os.close(master)
        os.close(slave)


def test_megabytes_go_through_stdin_and_back(sampan: Sampan) -> None:
    data = os.urandom(1 << 20) * 8
    result = sampan("run", "-i", "--rm", "busybox", "cat", input=data)
    assert result.returncode == 0
    assert result.stdout == data


def test_stdout_and_stderr_stay_apart(sampan: Sampan) -> None:
    script = "head -c 3000000 /dev/zero; echo x >&2; exit 9"
    result = sampan("run", "--rm", "busybox", "sh", "-c", script)
    assert (len(result.stdout), result.stderr, result.returncode) == (3_000_000, b"x\n", 9)


def test_the_end_of_stdin_reaches_the_process(sampan: Sampan) -> None:
    assert sampan("run", "-i", "--rm", "busybox", "wc", "-c", input=b"abc").stdout == b"3\n"
    assert sampan("run", "--rm", "busybox", "wc", "-c", input=b"abc").stdout == b"0\n"


def test_attaching_stdin_alone_waits_for_the_end(sampan: Sampan) -> None:
    script = "cat > /dev/null; exit 4"
    result = sampan("run", "-a", "stdin", "-i", "--rm", "busybox", "sh", "-c", script, input=b"abc")
    assert (result.returncode, result.stdout) == (4, b"")


def test_signals_are_passed_on(daemon: Daemon) -> None:
    script = 'trap "echo got; exit 4" TERM; echo ready; while true; do sleep 0.1; done'
    process = subprocess.Popen(
        [SAMPAN, "run", "--rm", "busybox", "sh", "-c", script],
        env=daemon.environment,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"got\n"
    assert process.returncode == 4


def test_the_exit_status_tells_how_it_ended(sampan: Sampan) -> None:
    assert sampan("run", "-d", "--name", "victim", "busybox", "sleep", "1000").returncode == 0
    assert sampan("kill", "victim").stdout == b"victim\n"
    assert sampan("wait", "victim").stdout == b"137\n"
    assert sampan("run", "--rm", "busybox", "/etc").returncode == 126
    assert sampan("run", "--rm", "busybox", "/nope").returncode == 127


def test_start_attached_passes_stdin(sampan: Sampan) -> None:
    assert sampan("create", "-i", "--name", "later", "busybox", "cat").returncode == 0
    assert sampan("start", "-ai", "later", input=b"hello").stdout == b"hello"
    assert sampan("start", "-a", "nosuch").returncode == 1


def test_exec_gives_streams_and_status(sampan: Sampan) -> None:
    assert sampan("run", "-d", "--name", "host", "busybox", "sleep", "1000").returncode == 0
    result = sampan("exec", "host", "sh", "-c", "echo e >&2; echo o; exit 6")
    assert (result.stdout, result.stderr, result.returncode) == (b"o\n", b"e\n", 6)
    data = b"x" * 300_000
    assert sampan("exec", "-i", "host", "cat", input=data).stdout == data
    assert sampan("exec", "-d", "host", "touch", "/made").stdout == b""
    assert sampan("exec", "host", "nope").returncode == 127
    assert sampan("exec", "host", "/etc").returncode == 126


def test_the_id_file_is_written_and_never_overwritten(sampan: Sampan, tmp_path: Path) -> None:
    file = str(tmp_path / "id")
    result = sampan("run", "-d", "--cidfile", file, "busybox", "true")
    assert (tmp_path / "id").read_text() == result.stdout.decode().strip()
    again = sampan("run", "-d", "--cidfile", file, "busybox", "true")
    assert (again.returncode, b"container ID file found" in again.stderr) == (125, True)
    other = str(tmp_path / "other")
    assert sampan("run", "--cidfile", other, "--name", "/bad", "busybox").returncode == 125
    assert not (tmp_path / "other").exists()


def test_a_reader_that_goes_away_ends_the_command(daemon: Daemon, sampan: Sampan) -> None:
    sampan("create", "--name", "one", "busybox")
    result = subprocess.run(
        ["bash", "-c", f"{SAMPAN} ps -a | true; echo ${{PIPESTATUS[0]}}"],
        env=daemon.environment,
        capture_output=True,
        check=True,
    )
    assert (result.stdout, result.stderr) in ((b"141\n", b""), (b"0\n", b""))


def test_stats_of_one_moment(sampan: Sampan) -> None:
    assert sampan("run", "-d", "--name", "busy", "busybox", "sleep", "1000").returncode == 0
    header, row = sampan("stats", "--no-stream", "busy").stdout.decode().splitlines()
    assert header.split()[:3] == ["CONTAINER", "ID", "NAME"]
    assert row.split()[1] == "busy"
    assert row.split()[2].endswith("%")


def test_events_of_a_life(sampan: Sampan) -> None:
    sampan("run", "--rm", "--name", "shortlived", "busybox", "true")
    result = sampan(
        *("events", "--since", "1m", "--until", "0s", "--filter", "container=shortlived"),
        *("--format", "{{.Action}}"),
    )
    happened = result.stdout.decode().split()
    assert [word for word in happened if word in ("create", "start", "die", "destroy")] == [
        *("create", "start", "die", "destroy")
    ]


def test_an_image_leaves_and_comes_back(sampan: Sampan, tmp_path: Path) -> None:
    file = str(tmp_path / "image.tar")
    assert sampan("tag", "busybox", "traveller:1").returncode == 0
    assert sampan("save", "-o", file, "traveller:1").returncode == 0
    assert sampan("rmi", "traveller:1").stdout == b"Untagged: traveller:1\n"
    assert sampan("load", "-i", file).stdout == b"Loaded image: traveller:1\n"
    assert sampan("rmi", "traveller:1").returncode == 0
