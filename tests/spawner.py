"""A real spawner for tests: own data root and run root, busybox as root file system; all goes."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sampan import rpc
from sampan.errors import NotFound, SampanError
from sampan.linux import mounts
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.logs.reader import LogReader
from sampan.logs.stream import FrameReader
from sampan.rpc import Fd
from sampan.runtime import defaults
from sampan.runtime.spawner import (
    ExecLaunch,
    Launch,
    Spawner,
    Started,
    Streams,
    TaskStatus,
)
from sampan.runtime.spawning.finding import connect_spawner, open_spawner, stop_spawner
from sampan.spec.names import new_id
from sampan.spec.runtime import Linux, LinuxNamespace, LinuxResources, Process, Spec
from tests import busybox
from tests.session import containers, eventually, scratch

PATIENCE = 20.0
JSON = Streams(log_driver="json-file")


@dataclass
class Client:
    """An attached client."""

    sock: socket.socket

    def rest(self) -> bytes:
        """Return everything until the end of the connection."""
        self.sock.settimeout(PATIENCE)
        data = b""
        while piece := self.sock.recv(1 << 16):
            data += piece
        self.sock.close()
        return data

    def streams(self) -> dict[int, bytes]:
        """Return the payloads of all frames until the end, by stream."""
        found: dict[int, bytes] = {1: b"", 2: b""}
        for number, payload in FrameReader().feed(self.rest()):
            found[number] += payload
        return found

    def until(self, mark: bytes) -> bytes:
        """Return what comes until `mark` is there."""
        self.sock.settimeout(PATIENCE)
        data = b""
        while mark not in data:
            piece = self.sock.recv(1 << 16)
            assert piece, f"closed after {data!r}"
            data += piece
        return data


@dataclass
class Harness:
    """One spawner under test, asked as the daemon asks it."""

    folder: Path
    spawner: Spawner = field(init=False)
    connection: socket.socket = field(init=False)
    started: list[Started] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    @property
    def data_root(self) -> Path:
        return self.folder / "data"

    @property
    def run_root(self) -> Path:
        return self.folder / "run"

    @property
    def log(self) -> str:
        return (self.run_root / "spawner.log").read_text()

    def open(self) -> None:
        """Start the spawner if need be, and connect."""
        self.connection = open_spawner(self.data_root, self.run_root)
        self.spawner = rpc.connect(Spawner, self.connection, deadline=PATIENCE)

    def reconnect(self) -> None:
        """Connect again, as after the death of the forker."""
        self.connection.close()

        def answers() -> bool:
            try:
                self.connection = connect_spawner(self.run_root)
                self.spawner = rpc.connect(Spawner, self.connection, deadline=PATIENCE)
                self.spawner.tasks()
            except SampanError:
                return False
            return True

        eventually(answers)

    def keeper(self) -> int:
        """Return the keeper, or the one that takes its place if it has just been killed."""
        lock = self.run_root / "spawner.lock"
        found: list[int] = []

        def is_there() -> list[int]:
            # It listens, and even writes logs, before it has written down which process it is.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                pid = int(lock.read_text() or "0")
                if pid and Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
            return found

        eventually(is_there)
        return found[0]

    def forker(self) -> int:
        """Return the child of the keeper that is the forker; containers may be others."""
        found: list[int] = []

        def is_there() -> list[int]:
            # The lock names the old keeper until the new one has started.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                keeper = self.keeper()
                own = Path(f"/proc/{keeper}/cmdline").read_bytes()
                for pid in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split():
                    if own and Path(f"/proc/{pid}/cmdline").read_bytes() == own:
                        found.append(int(pid))
            return found

        eventually(is_there)
        return found[0]

    def root(self) -> Fd:
        """Return a detached mount of a busybox root."""
        flags = mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC
        path = os.fsencode(self.folder / "root")
        return Fd(mounts.open_tree(mounts.AT_FDCWD, path, flags))

    def start(
        self,
        *command: str,
        streams: Streams = JSON,
        id: str = "",
        files: dict[str, bytes] | None = None,
        resources: LinuxResources | None = None,
        namespaces: tuple[str, ...] = ("pid", "mount", "ipc", "uts", "network"),
    ) -> str:
        """Start a container that runs `command`; return its id."""
        container = id or new_id()
        spec = Spec(
            process=Process(args=list(command), env=["PATH=/bin"], terminal=streams.terminal),
            mounts=defaults.mounts(),
            linux=Linux(
                namespaces=[LinuxNamespace(type=each) for each in namespaces],  # type: ignore[arg-type]
                resources=resources,
            ),
        )
        with self.root() as root:
            launch = Launch(id=container, spec=spec, streams=streams, files=files or {})
            self.ids.append(container)
            containers.add(container)
            self.started.append(self.spawner.start(launch, root))
        return container

    def exec(self, id: str, *command: str, streams: Streams | None = None) -> str:
        """Start one more process; return its exec id."""
        streams = streams or Streams()
        launch = ExecLaunch(
            id=id,
            exec_id=new_id(),
            process=Process(args=list(command), env=["PATH=/bin"], terminal=streams.terminal),
            streams=streams,
        )
        self.started.append(self.spawner.exec(launch))
        return launch.exec_id

    def attach(
        self, id: str, exec_id: str = "", *, stdin: bool = False, output: bool = True
    ) -> Client:
        """Attach a client."""
        fd = self.spawner.attach(id, exec_id, stdin=stdin, stdout=output, stderr=output)
        return Client(socket.socket(fileno=fd.detach()))

    def end(self, id: str, exec_id: str = "") -> TaskStatus:
        """Wait for the end of a task as the daemon does: pidfd, then `wait`."""
        return self.spawner.wait(id, exec_id)

    def folder_of(self, id: str) -> Path:
        return self.data_root / "containers" / id

    def logged(self, id: str, driver: str = "json-file") -> bytes:
        """Return what the log holds."""
        with LogReader(self.folder_of(id), id, driver) as reader:
            data = b""
            while lines := reader.read():
                data += b"".join(line.line for line in lines)
        return data

    def close(self) -> None:
        """End every container and the spawner."""
        for started in self.started:
            started.pidfd.close()
            if started.oom:
                started.oom.close()
        for container in self.ids:
            with contextlib.suppress(SampanError):
                self.spawner.signal(container, signal=signal.SIGKILL, all=True)
            with contextlib.suppress(NotFound):
                self.spawner.wait(container)
            with contextlib.suppress(SampanError):
                self.spawner.forget(container, remove=True)
            assert not open_cgroup(f"/sampan/{container}").exists(), self.log
        self.connection.close()
        assert stop_spawner(self.data_root, self.run_root)


def readable(descriptor: Fd, patience: float = 0.0) -> bool:
    """Tell whether a descriptor is readable, or becomes so in time."""
    return bool(select.select([descriptor], [], [], patience)[0])


@contextlib.contextmanager
def running() -> Iterator[Harness]:
    """Run a spawner with its own folders; everything is gone afterwards."""
    folder = scratch()
    busybox.fill(folder / "root")
    harness = Harness(folder)
    try:
        harness.open()
        try:
            yield harness
        finally:
            harness.close()
    finally:
        shutil.rmtree(folder)
