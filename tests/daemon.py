"""A real daemon for tests: its own data root, run root and network namespace; all of it goes."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import busybox
from tests.session import PATIENCE, containers, eventually, scratch, unique

REGISTRY = "/usr/bin/docker-registry"
REPOSITORY = Path(__file__).resolve().parent.parent


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


# The storage driver of daemons that are not told one: the tests can be run with each.
DRIVER = os.environ.get("SAMPAN_TEST_STORAGE_DRIVER", "")
Socket = socket.socket  # a class below has a property of that name


@dataclass
class Answer:
    """One API answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Daemon:
    """One daemon under test. `SAMPAN_TEST_PEER=dockerd` runs the same tests on Docker itself."""

    folder: Path
    namespace: str
    options: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    images: set[str] = field(default_factory=set)
    within: Sequence[str] = ()  # a command that runs another, in which the daemon is started
    program: str = os.environ.get("SAMPAN_TEST_PEER") or f"{sys.prefix}/bin/sampand"

    @property
    def socket(self) -> str:
        return str(self.folder / "engine.sock")

    @property
    def data_root(self) -> Path:
        return self.folder / "data"

    @property
    def driver(self) -> str:
        """The name of the storage driver that is used unless the options name one."""
        return DRIVER or "overlay"

    @property
    def snapshots(self) -> Path:
        return self.data_root / "snapshots" / self.driver

    @property
    def content(self) -> Path:
        return self.data_root / "content"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def enter(self) -> list[str]:
        """The command prefix that runs a program in the daemon's network namespace."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *self.within]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self.folder / "config"),
        }

    @property
    def programs(self) -> dict[str, str]:
        """The command lines to try: ours, and the docker CLI of this machine."""
        docker = shutil.which("docker")
        assert docker, "the docker CLI is missing: apt-get install docker.io"
        if os.environ.get("SAMPAN_TEST_PEER"):
            return {"sampan": docker, "docker": docker}
        return {"sampan": f"{sys.prefix}/bin/sampan", "docker": docker}

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        self.launch()
        eventually(self._answers)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the daemon, and return at once."""
        if not self.folder.joinpath("config").exists():
            self.folder.joinpath("config").mkdir()
        ulimits = ["--default-ulimit", "nofile=1024:4096"] if self.program == "dockerd" else []
        driver = ["-s", DRIVER] if DRIVER and "-s" not in self.options else []
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self.enter, self.program]
                + ["--data-root", str(self.data_root), "--exec-root", str(self.folder / "exec")]
                + ["--host", f"unix://{self.socket}", "--pidfile", str(self.folder / "pid")]
                + [*ulimits, *driver, *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.process

    def _answers(self) -> bool:
        assert self.process
        code = self.process.poll()
        assert code is None, f"the daemon did not start:\n{self.log[-4000:]}"
        with contextlib.suppress(OSError):
            return self.request("GET", "/_ping").status == 200
        return False

    def stop(self) -> None:
        """Ask the daemon to end, and wait for it."""
        if self.process:
            self.process.terminate()
            if self.process.wait(PATIENCE) == 0:
                assert not self.claim.exists()
            self.process = None

    @property
    def claim(self) -> Path:
        """The file by which a daemon claims its network namespace."""
        namespace = os.stat(f"/run/netns/{self.namespace}").st_ino
        return Path("/run", f"sampan-network-{namespace}.lock")

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one API request; a body that is not bytes goes as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.closing(_Connection(self.socket)) as connection:
            connection.request(
                method, path, content, headers or {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def connect(self) -> Socket:
        """Return a bare connection, for what no client library would send."""
        connection = _Connection(self.socket)
        connection.connect()
        assert connection.sock
        return connection.sock

    def remove_other_images(self) -> None:
        """Remove all images and names of images but those that were imported for all tests."""
        for image in self.request("GET", "/images/json?all=1").json:
            for name in [tag for tag in image["RepoTags"] or () if tag not in self.images]:
                self.request("DELETE", f"/images/{name}?force=1")
            if not image["RepoTags"]:
                self.request("DELETE", f"/images/{image['Id']}?force=1")

    def import_image(self, reference: str = "busybox:latest") -> None:
        """Give the daemon a busybox image under this name, once."""
        if reference in self.images:
            return
        repository, _, tag = reference.partition(":")
        answer = self.request(
            "POST",
            f"/images/create?fromSrc=-&repo={repository}&tag={tag or 'latest'}",
            busybox.archive(),
            {"Content-Type": "application/x-tar"},
        )
        assert answer.status == 200, answer.body
        assert b"errorDetail" not in answer.body, answer.body
        self.images.add(reference)

    def remove_containers(self) -> None:
        """Remove every container by force; wait for those that are being removed already."""

        def are_gone() -> bool:
            found = self.request("GET", "/containers/json?all=1").json
            for container in found:
                containers.add(container["Id"])
                self.request("DELETE", f"/containers/{container['Id']}?force=1&v=1")
            return not found

        with contextlib.suppress(AssertionError):
            eventually(are_gone)

    def remove_volumes(self) -> None:
        """Remove every volume that no container has."""
        for volume in self.request("GET", "/volumes").json["Volumes"]:
            self.request("DELETE", f"/volumes/{volume['Name']}?force=1")

    def processes(self) -> list[int]:
        """Return the daemon's own processes: those in its network namespace, outside containers.

        A registry of the test, which shares the namespace, is none of them, nor is a process that
        serves a mount of fuse-overlayfs: it belongs to a container.
        """
        network = os.stat(f"/run/netns/{self.namespace}").st_ino
        pids = os.stat("/proc/self/ns/pid").st_ino
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if (
                    os.stat(f"/proc/{entry}/ns/net").st_ino == network
                    and os.stat(f"/proc/{entry}/ns/pid").st_ino == pids
                    and os.readlink(f"/proc/{entry}/exe") != REGISTRY
                ):
                    found.append(int(entry))
        servers = self.mount_servers() if "fuse-overlayfs" in (DRIVER, *self.options) else []
        return [pid for pid in found if pid not in servers]

    def parts(self) -> dict[str, int]:
        """Return the processes that live as long as the daemon, by what they are."""
        assert self.process is not None
        found = {"supervisor": self.process.pid}
        for pid in self.processes():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            if words and parent == self.process.pid:
                helpers = re.findall(r"sampan\.helpers\.(\w+)", words)
                found[helpers[0] if helpers else "api"] = pid
        return found

    def mount_servers(self) -> list[int]:
        """Return the processes that serve a mount of fuse-overlayfs of this daemon."""
        network = os.stat(f"/run/netns/{self.namespace}").st_ino
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
                is_server = b"fuse-overlayfs" in words[0] and b"/dev/fd/" in words[-2]
                if is_server and os.stat(f"/proc/{entry}/ns/net").st_ino == network:
                    found.append(int(entry))
        return found

    def kill(self) -> None:
        """Kill the daemon's own processes at once, also those that are born meanwhile."""

        def all_gone() -> bool:
            for pid in (alive := self.processes()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.process:
                self.process.poll()
            return not alive

        eventually(all_gone)
        if self.process:  # it may be dying still, and no program any more
            self.process.wait(PATIENCE)


@contextlib.contextmanager
def running(
    *options: str,
    data_size: str = "",
    data_in: Path | None = None,
    within: Sequence[str] = (),
    prepared: Callable[[Daemon], None] | None = None,
    program: str = "",
) -> Iterator[Daemon]:
    """Run a daemon, and end every process and mount of it afterwards.

    With `data_size` ("64m") the data root is a file system of that size; with `data_in` it is that
    folder, on whatever file system. `prepared` is called before the daemon starts. `program` may be
    "dockerd".
    """
    folder = scratch()
    folder.chmod(0o755)
    namespace = unique()
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    daemon = Daemon(folder, namespace, options, within=within)
    daemon.program = program or daemon.program
    try:
        subprocess.run([*daemon.enter, "ip", "link", "set", "lo", "up"], check=True)
        if data_size:
            daemon.data_root.mkdir()
            size = ["-o", f"size={data_size},mode=0711"]
            subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", daemon.data_root], check=True)
        if data_in:
            daemon.data_root.mkdir()
            subprocess.run(["mount", "--bind", data_in, daemon.data_root], check=True)
        if prepared:
            prepared(daemon)
        daemon.start()
        yield daemon
        daemon.remove_containers()
        daemon.stop()
    except BaseException:
        with contextlib.suppress(Exception):  # what a test that fails has started ends as well
            daemon.remove_containers()
        raise
    finally:
        daemon.kill()
        daemon.claim.unlink(missing_ok=True)  # of one that was killed
        subprocess.run(["ip", "netns", "del", namespace], check=True)
        if os.path.ismount(daemon.data_root):
            subprocess.run(["umount", "--lazy", daemon.data_root], check=True)
        shutil.rmtree(folder, ignore_errors=True)
