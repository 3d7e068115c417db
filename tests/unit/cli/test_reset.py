"""`sampan system reset` becomes the daemon's program, with what the daemon was started with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.cli.arguments.flags import parse
from sampan.cli.commands.system import reset
from sampan.cli.invocation import Exit, Invocation

LISTENS = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()"


class Executed(Exception):
    """What execv was given; it does not return."""


@pytest.fixture(autouse=True)
def executed(monkeypatch: pytest.MonkeyPatch) -> None:
    def execv(_: str, arguments: list[str]) -> None:
        raise Executed(arguments[1:])

    monkeypatch.setattr(os, "execv", execv)


def arguments(host: str, *words: str) -> list[str]:
    invocation = Invocation()
    invocation.host = host
    with pytest.raises(Executed) as raised:
        reset.run(invocation, parse(reset.Options, words).options, [])
    found: list[str] = raised.value.args[0]
    return found


def test_a_daemon_that_does_not_run_is_found_by_options(tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/none.sock"
    assert arguments(host) == ["--reset"]
    assert arguments(host, "-f", "--data-root", "/a", "--exec-root=/b") == [
        *("--reset", "--data-root=/a", "--exec-root=/b", "--force")
    ]


@pytest.mark.parametrize(("name", "known"), [("sampand", True), ("dockerd", False)])
def test_a_daemon_that_runs_is_found_by_its_socket(tmp_path: Path, name: str, known: bool) -> None:
    program, path = tmp_path / name, f"{tmp_path}/engine.sock"
    program.write_text(f"{LISTENS}; print(flush=True); sys.stdin.read()\n")
    words = ["--data-root", "/some where", "--pidfile", ""]
    pipe = subprocess.PIPE
    command = [sys.executable, str(program), path, *words]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as daemon:
        assert daemon.stdout
        assert daemon.stdout.readline() == b"\n"
        expected = ["--reset", *([path, *words] if known else [])]
        assert arguments(f"unix://{path}") == expected
        assert daemon.stdin
        daemon.stdin.close()


def test_another_machine_is_refused() -> None:
    invocation = Invocation()
    invocation.host = "tcp://192.0.2.1:2375"
    with pytest.raises(Exit, match="may be another machine"):
        reset.run(invocation, parse(reset.Options, []).options, [])
