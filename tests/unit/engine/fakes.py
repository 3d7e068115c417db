"""Stand-ins for the parts around the engine's leaves: containers, a spawner of host processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time

from sampan.engine.containers.container import Container, Record
from sampan.errors import Conflict, NotFound
from sampan.logs.stream import STDOUT, frame
from sampan.rpc import Fd
from sampan.runtime.spawner import Bind, ExecLaunch, Launch, Started, TaskStatus
from sampan.spec.docker.config import Config, HostConfig, LogConfig
from sampan.spec.names import new_id
from sampan.spec.runtime import LinuxResources


def container(
    config: Config | None = None, host: HostConfig | None = None, *, running: bool = False
) -> Container:
    """Return a container that no engine knows of."""
    record = Record(
        id=new_id(),
        name="tested",
        created=time.time_ns(),
        image="sha256:" + "1" * 64,
        path="sh",
        args=["-c", "true"],
        config=config or Config(image="busybox", hostname="host"),
        host_config=host or HostConfig(log_config=LogConfig(type="json-file")),
    )
    made = Container(record)
    made.running = running
    if running:
        record.started_at = time.time_ns()
    else:
        made.ended.set()
    return made


class FakeSpawner:
    """Runs the programs of containers and execs as processes of this host, without isolation."""

    def __init__(self) -> None:
        self._processes: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self._clients: dict[tuple[str, str], list[socket.socket]] = {}
        self.started_at: dict[tuple[str, str], int] = {}
        self.signals: list[tuple[str, int]] = []

    def start(
        self, launch: Launch, root: Fd, network: Fd | None = None, user: Fd | None = None
    ) -> Started:
        assert launch.spec.process
        return self._run((launch.id, ""), launch.spec.process.args)

    def exec(self, launch: ExecLaunch) -> Started:
        return self._run((launch.id, launch.exec_id), launch.process.args)

    def _run(self, key: tuple[str, str], args: list[str]) -> Started:
        process = subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._processes[key] = process
        self.started_at[key] = time.time_ns()
        pidfd = Fd(os.pidfd_open(process.pid))  # before anybody can reap it
        threading.Thread(target=self._relay, args=(key, process)).start()
        return Started(pid=process.pid, started_at=self.started_at[key], pidfd=pidfd)

    def _relay(self, key: tuple[str, str], process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        with process.stdout:
            while data := process.stdout.read1(4096):  # type: ignore[attr-defined]
                for client in self._clients.get(key, []):
                    client.sendall(frame(STDOUT, data))
        process.wait()
        for client in self._clients.pop(key, []):
            client.close()

    def attach(self, id: str, exec_id: str = "", *, stdin: bool, stdout: bool, stderr: bool) -> Fd:
        ours, theirs = socket.socketpair()
        self._clients.setdefault((id, exec_id), []).append(theirs)
        return Fd(ours.detach())

    def edit(self, id: str, name: str, *, remove: list[str], add: list[str]) -> bool:
        return False

    def resize(self, id: str, exec_id: str = "", *, rows: int, columns: int) -> None:
        raise NotFound("it has no terminal")

    def signal(self, id: str, exec_id: str = "", *, signal: int, all: bool = False) -> None:
        process = self._processes.get((id, exec_id))
        if process is None or process.poll() is not None:
            raise Conflict(f"container {id} is not running")
        self.signals.append((exec_id or id, signal))
        process.send_signal(signal)

    def freeze(self, id: str, *, frozen: bool) -> None:
        self.signal(id, signal=signal.SIGSTOP if frozen else signal.SIGCONT)

    def update(self, id: str, resources: LinuxResources) -> None:
        self._known(id, "")

    def tasks(self, id: str = "") -> list[TaskStatus]:
        return [self._status(key) for key in list(self._processes) if not id or key[0] == id]

    def pidfd(self, id: str, exec_id: str = "") -> Started:
        pid = self._known(id, exec_id).pid
        return Started(pid=pid, started_at=0, pidfd=Fd(os.pidfd_open(pid)))

    def root(self, id: str) -> Fd:
        raise Conflict(f"container {id} is not running")

    def assemble(self, root: Fd, binds: list[Bind], make_sources: list[str]) -> Fd:
        return Fd(os.dup(root.number))

    def rebind(self, id: str, bind: Bind) -> None:
        self._known(id, "")

    def wait(self, id: str, exec_id: str = "") -> TaskStatus:
        self._known(id, exec_id).wait()
        return self._status((id, exec_id))

    def forget(self, id: str, exec_id: str = "", *, remove: bool = False) -> None:
        self._processes.pop((id, exec_id), None)

    def close(self) -> None:
        """End what still runs."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _known(self, id: str, exec_id: str) -> subprocess.Popen[bytes]:
        if (id, exec_id) not in self._processes:
            raise NotFound(f"No such container: {id}")
        return self._processes[id, exec_id]

    def _status(self, key: tuple[str, str]) -> TaskStatus:
        process = self._processes[key]
        code = process.poll()
        return TaskStatus(
            id=key[0],
            exec_id=key[1],
            state="running" if code is None else "stopped",
            pid=process.pid,
            started_at=self.started_at[key],
            finished_at=0 if code is None else time.time_ns(),
            exit_code=None if code is None else (128 - code if code < 0 else code),
        )
