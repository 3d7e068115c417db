"""What a session of tests leaves behind that was killed itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import session
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

SESSION = """
import os, sys
from tests import reaper, session
from tests.daemon import running
os.environ[session.VARIABLE] = session.TOKEN
with reaper.beside(), running() as daemon:
    daemon.import_image()
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
    container = daemon.request("POST", "/containers/create", body).json["Id"]
    daemon.request("POST", f"/containers/{container}/start")
    print(session.TOKEN, container, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_session_has_made_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", SESSION]
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        token, container = process.stdout.readline().split()
        monkeypatch.setattr(session, "TOKEN", token)
        session.containers.add(container)
        made = " ".join(session.left())
        for kind in ("process", "mount", "folder", "network namespace", "cgroup"):
            assert f"{kind} " in made
        process.kill()
    eventually(lambda: session.left() == [])
