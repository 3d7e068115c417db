"""A real PostgreSQL for tests: an unprivileged process on a socket in a folder of its own.

with postgres() as server:
    address = server.database()
    server.stop(); server.start()
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.session import PATIENCE, eventually, scratch, unique

USER = "sampan"  # whom packaging/prepare makes; PostgreSQL refuses to be root
# Nothing has to outlast a power failure here.
QUICK = ["fsync=off", "full_page_writes=off", "synchronous_commit=off", "listen_addresses="]


def programs() -> Path:
    """Return where Debian has the programs of a server."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    assert found, "apt-get install postgresql"
    return found[-1].parent


@dataclass
class Postgres:
    """One server."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [word for setting in QUICK for word in ("-c", setting)]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [programs() / "postgres", "-D", self.folder / "data", "-k", self.folder, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **_as_user(),  # type: ignore[call-overload]
            )
        eventually(self._answers)

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.folder / "log").read_text()
        done = subprocess.run(
            [programs() / "pg_isready", "-q", "-h", self.folder], check=False, timeout=PATIENCE
        )
        return done.returncode == 0

    def stop(self, number: int = signal.SIGQUIT) -> None:
        """End it at once, with all its connections, as a crash does."""
        if self.process:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            self.process = None

    def database(self) -> str:
        """Make an empty database, and return its address."""
        import psycopg

        name = unique().replace("-", "_")
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self._address(name)

    def _address(self, name: str) -> str:
        return f"host={self.folder} user={USER} dbname={name}"


def _as_user() -> dict[str, object]:
    """Return how a process is started as the user of the server."""
    if os.geteuid():
        return {}
    user = pwd.getpwnam(USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server with nothing in it."""
    folder = scratch()
    server = Postgres(folder)
    try:
        if not os.geteuid():
            shutil.chown(folder, USER, USER)
        subprocess.run(
            [
                *(programs() / "initdb", "-D", folder / "data", "-U", USER, "-A", "trust"),
                *("--no-sync", "--no-locale", "-E", "UTF8"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=PATIENCE * 2,
            **_as_user(),  # type: ignore[call-overload]
        )
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
