"""A registry that is told to end before it listens undoes what it has begun."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MOMENTS = ("s.sock", "data/sampan", "data/sampan/registry.db", "data/sampan/control")
SOCKETS = ("s.sock", "data/sampan/control")
PROGRAM = "import sys; from sampan.registryd.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_registry_that_is_told_to_end_while_it_starts_ends_in_order(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    command = _command(tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while not (tmp_path / moment).exists():
            assert process.poll() is None
        process.send_signal(number)
        told = process.communicate(timeout=60)[0].decode()
    assert (process.returncode, "Traceback" in told) == (0, False), told
    assert not list(tmp_path.glob("data/sampan/registry.db-*")), "the database was not closed"
    assert [name for name in SOCKETS if (tmp_path / name).exists()] == []


def _command(folder: Path) -> list[str]:
    path = folder / "config.yml"
    path.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: {folder}/s.sock, net: unix}}\n"
    )
    return [sys.executable, "-c", PROGRAM, "serve", str(path)]


@pytest.mark.slow
def test_a_registry_without_certificates_outlives_a_hang_up(tmp_path: Path) -> None:
    with subprocess.Popen(_command(tmp_path), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for awaited, number in (
            ("listening on", signal.SIGHUP),
            ("no certificates to read anew", signal.SIGTERM),
        ):
            assert any(awaited in line for line in process.stderr)
            process.send_signal(number)
        process.stderr.read()
    assert process.returncode == 0


@contextmanager
def _running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(_command(folder), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            assert any("listening on" in line for line in process.stderr)
            yield process
        finally:
            process.terminate()
            process.stderr.read()


@pytest.mark.slow
def test_sockets_go_with_the_registry_and_what_a_kill_has_left_is_taken_over(
    tmp_path: Path,
) -> None:
    with _running(tmp_path) as registry:
        registry.kill()
    assert all((tmp_path / name).is_socket() for name in SOCKETS)
    with _running(tmp_path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / SOCKETS[0]))
    assert [name for name in SOCKETS if (tmp_path / name).exists()] == []


@pytest.mark.slow
def test_a_socket_that_has_taken_the_path_of_another_stays(tmp_path: Path) -> None:
    path = tmp_path / SOCKETS[0]
    with _running(tmp_path), socket.socket(socket.AF_UNIX) as other:
        path.unlink()
        other.bind(str(path))
    assert path.is_socket()
    assert not (tmp_path / SOCKETS[1]).exists()
