"""A registry that is told to end before it listens undoes what it has begun."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

MOMENTS = ("s.sock", "data/sampan", "data/sampan/registry.db", "data/sampan/control")
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
