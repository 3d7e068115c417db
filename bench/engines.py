"""The engines that are compared: ours and Debian's dockerd, each in a network namespace of its own.

Nothing of the host's network, cgroups or data is touched; all ends with the context manager.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
STARTUP_SECONDS = 30


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(self._path)


@dataclass
class Engine:
    """One running engine: where it listens, where it lives."""

    name: str
    folder: Path
    namespace: str
    process: subprocess.Popen[bytes] | None = None
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.folder / "log"

    @property
    def socket(self) -> str:
        return str(self.folder / "engine.sock")

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which `docker` and `sampan` talk to this engine."""
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}"}

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send one API request and return the decoded answer; raises RuntimeError on refusal."""
        connection = _Connection(self.socket)
        with contextlib.closing(connection):
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: {response.status} {answer.decode()}")
        return json.loads(answer) if answer.strip() else None

    def upload(self, path: str, content: bytes) -> None:
        """Post an archive; raises RuntimeError on refusal."""
        with contextlib.closing(_Connection(self.socket)) as connection:
            connection.request("POST", path, content, {"Content-Type": "application/x-tar"})
            response = connection.getresponse()
            answer = response.read()
            if response.status >= 400 or b"errorDetail" in answer:
                raise RuntimeError(f"POST {path}: {response.status} {answer.decode()}")

    def processes(self) -> list[int]:
        """Return the engine's own processes: in its network namespace, outside containers."""
        network = os.stat(f"/run/netns/{self.namespace}").st_ino
        pids = os.stat("/proc/self/ns/pid").st_ino
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError, ValueError):
                pid = int(entry)
                if (
                    os.stat(f"/proc/{pid}/ns/net").st_ino == network
                    and os.stat(f"/proc/{pid}/ns/pid").st_ino == pids
                ):
                    found.append(pid)
        return found

    def memory(self) -> int:
        """Return the proportional set size of all processes of the engine, in bytes."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as rollup:
                total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        return total << 10

    def cpu(self) -> float:
        """Return the CPU seconds that all processes of the engine have used."""
        ticks = 0
        for pid in self.processes():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
                fields = stat.read().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def remove_all(self) -> None:
        """Remove every container."""
        for container in self.request("GET", "/containers/json?all=1"):
            with contextlib.suppress(RuntimeError):
                self.request("DELETE", f"/containers/{container['Id']}?force=1&v=1")


def _command(engine: Engine) -> list[str]:
    """Return how to start the engine in the foreground."""
    folder = engine.folder
    place = ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    common = [*place, "--host", f"unix://{engine.socket}", "--pidfile", f"{folder}/pid"]
    if engine.name == "dockerd":
        # Hard limits cannot be raised without CAP_SYS_RESOURCE: ask for what every session has.
        return ["dockerd", *common, "--default-ulimit", "nofile=1024:4096"]
    return [f"{REPOSITORY}/.venv/bin/sampand", *common]


@contextlib.contextmanager
def running(name: str) -> Iterator[Engine]:
    """Start `dockerd` or `sampand` and stop it, with all its containers, at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-", dir="/var/tmp"))
    folder.chmod(0o755)
    engine = Engine(name, folder, f"bench-{secrets.token_hex(3)}")
    subprocess.run(["ip", "netns", "add", engine.namespace], check=True)
    enter = ["nsenter", f"--net=/run/netns/{engine.namespace}"]
    try:
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        with open(engine.log, "wb") as log:
            engine.process = subprocess.Popen(
                [*enter, *_command(engine)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        _await_answer(engine)
        yield engine
        engine.remove_all()
    finally:
        _end(engine)


def _await_answer(engine: Engine) -> None:
    end = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            engine.request("GET", "/version")
            return
        time.sleep(0.05)
    raise RuntimeError(f"{engine.name} did not start:\n{engine.log.read_text()[-2000:]}")


def _end(engine: Engine) -> None:
    if engine.process:
        engine.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.process.wait(20)
    while left := engine.processes():  # a killed half of our spawner is made anew by the other
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", engine.namespace], check=False)
    with open("/proc/self/mounts") as mounts:
        below = [
            line.split()[1] for line in mounts if line.split()[1].startswith(f"{engine.folder}/")
        ]
    for target in reversed(below):
        subprocess.run(["umount", "-l", target], check=False, capture_output=True)
    shutil.rmtree(engine.folder, ignore_errors=True)


def import_base(engine: Engine) -> None:
    """Give the engine the image `busybox`."""
    tar = subprocess.run([f"{REPOSITORY}/examples/busybox-rootfs"], check=True, capture_output=True)
    subprocess.run(
        ["docker", "import", "-", "busybox"],
        input=tar.stdout,
        env=engine.environment,
        check=True,
        capture_output=True,
    )


def wanted() -> list[str]:
    """Return the engines to measure: ours, and the peer if this machine has it."""
    if shutil.which("dockerd"):
        return ["sampand", "dockerd"]
    print("dockerd is not installed (apt-get install docker.io): no ratios", file=sys.stderr)
    return ["sampand"]
