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
    path = tmp_path / "config.yml"
    path.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}\n"
        f"http: {{addr: {tmp_path}/s.sock, net: unix}}\n"
    )
    command = [sys.executable, "-c", PROGRAM, "serve", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while not (tmp_path / moment).exists():
            assert process.poll() is None
        process.send_signal(number)
        told = process.communicate(timeout=60)[0].decode()
    assert (process.returncode, "Traceback" in told) == (0, False), told
    assert not list(tmp_path.glob("data/sampan/registry.db-*")), "the database was not closed"
