"""A real Redis for tests: on a socket in a folder of its own, or on TCP in a network namespace.

with redis_server() as server:
    server.client().set("key", "value")
    server.kill(); server.start()
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tests.session import PATIENCE, eventually, scratch
from tests.wire import LOOPBACK, within


@dataclass
class RedisServer:
    """One server. `options` are those of its command line, without the dashes."""

    folder: Path
    namespace: str = ""
    port: int = 0  # 0: only on the socket
    options: dict[str, str] = field(default_factory=dict)
    mode: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        return str(self.folder / "socket")

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def settings(self) -> dict[str, Any]:
        """The section `redis` of a registry that uses it."""
        return {"addr": self.address if self.port else self.socket}

    def start(self) -> None:
        """Start it, and wait until it answers."""
        Path(self.socket).unlink(missing_ok=True)
        given = {
            "port": str(self.port),
            "bind": LOOPBACK,
            "unixsocket": self.socket,
            "dir": str(self.folder),
            "save": "",
            **self.options,
        }
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        with open(self.folder / "log", "ab") as log, within(self.namespace):
            self.process = subprocess.Popen(
                ["redis-server", *words, *self.mode],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        eventually(self._listens)

    def _listens(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            with self.client() as client:
                client.execute_command("PING")
        except redis.AuthenticationError:
            return True  # to those who know its password
        except redis.ConnectionError:
            return False
        return True

    def client(self, **options: Any) -> redis.Redis:
        """A client of the test's own."""
        path = options.pop("path", self.socket)
        return redis.Redis(
            unix_socket_path=path, decode_responses=True, protocol=2, retry=None, **options
        )

    def signal(self, number: int) -> None:
        """Stop it, let it go on, or end it."""
        assert self.process
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        if self.process:
            self.process.kill()
            self.process.wait(PATIENCE)
            self.process = None

    def dump(self) -> dict[str, Any]:
        """Return all that is in it."""
        found: dict[str, Any] = {}
        with self.client() as client:
            for key in client.scan_iter("*"):
                is_set = client.type(key) == "set"
                found[key] = client.smembers(key) if is_set else client.hgetall(key)
        return found


@contextlib.contextmanager
def redis_server(
    namespace: str = "", port: int = 0, mode: tuple[str, ...] = (), **options: str
) -> Iterator[RedisServer]:
    """Run a server with nothing in it; TCP only in a namespace. `_` in options is `-`."""
    assert namespace or not port, "the host's network is not ours"
    assert shutil.which("redis-server"), "apt-get install redis-server"
    folder = scratch()
    given = {name.replace("_", "-"): value for name, value in options.items()}
    server = RedisServer(folder, namespace, port, given, mode)
    try:
        server.start()
        yield server
    finally:
        if server.process:
            server.signal(signal.SIGCONT)
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
