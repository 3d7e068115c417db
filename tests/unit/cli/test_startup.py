"""The command line starts fast: it imports what the command needs, and nothing that is slow."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What each of these costs at a start, in milliseconds of CPU: argparse 7, dataclasses 12, h11 26,
# msgspec 45, ssl 11, subprocess 9, typing 7, urllib.parse 7, tarfile 8, threading 3; of those that
# most programs import without a thought, enum 1, json 1, re 2, socket 2.
SLOW = {
    *("argparse", "asyncio", "dataclasses", "enum", "h11", "http", "inspect", "json", "logging"),
    *("msgspec", "re", "signal", "socket"),
    *("pathlib", "shutil", "ssl", "subprocess", "tarfile", "tempfile", "threading", "typing"),
    *("urllib", "urllib.parse"),
}
ASK = """
import sys
from sampan.cli.main import main
before = set(sys.modules)
main(sys.argv[1:])
print("\\n".join(sorted(sys.modules)), file=sys.stderr)
"""


def imported(*arguments: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{ASK}"]
        + list(arguments),
        capture_output=True,
        text=True,
        check=True,
        env={"DOCKER_HOST": "unix:///nonexistent.sock", "DOCKER_CONFIG": "/nonexistent"},
    )
    return set(result.stderr.split())


@pytest.mark.parametrize(
    "command",
    [
        ("ps",),
        ("run", "--rm", "-i", "-p", "80:80", "busybox", "true"),
        ("run", "-d", "busybox:1.36"),
        ("exec", "x", "true"),
        ("rm", "-f", "x"),
        ("images",),
        ("images", "--tree"),
        ("search", "x"),
        ("login", "-u", "me", "-p", "secret", "host"),
        ("system", "df", "-v"),
        ("system", "check"),
        ("inspect", "-f", "{{.Id}}", "x"),
        ("logs", "x"),
    ],
    ids=" ".join,
)
def test_a_start_imports_nothing_slow(command: tuple[str, ...]) -> None:
    modules = imported(*command)
    assert "sampan.client.endpoint" in modules
    assert not modules & SLOW


def test_a_start_imports_few_modules() -> None:
    assert len(imported("ps")) <= 100


def test_only_the_command_called_is_imported() -> None:
    modules = imported("ps")
    commands = {name for name in modules if name.startswith("sampan.cli.commands.")}
    assert commands == {"sampan.cli.commands.ps"}


@pytest.mark.parametrize("module", ["sampan.engine", "sampan.linux", "asyncio"])
def test_the_command_line_reaches_the_daemon_only_through_the_client(module: str) -> None:
    assert module not in imported("run", "busybox")
