"""The life cycle of the OCI specification, on containers that are known by their state on disk.

`create` is `launch` with `hold`; everything later may be asked by any process that can read the
state directory: whoever starts or deletes a container need not be its parent.
"""

from __future__ import annotations

import errno
import os
import re
import signal as signals
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from sampan.errors import Conflict, Internal, InvalidArgument, NotFound
from sampan.linux import namespaces
from sampan.linux.cgroups.cgroup import Cgroup
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.runtime import hooks, state
from sampan.spec.runtime import LinuxResources, State

Status = Literal["creating", "created", "running", "paused", "stopped"]
ID = re.compile(r"[\w+.-]{1,1024}", re.ASCII)
PATIENCE = 10.0  # seconds that a killed init may take to die


def directory_of(root: str, id: str) -> str:
    """Return the state directory of a container; raises InvalidArgument for a bad id."""
    if not ID.fullmatch(id) or id in (".", ".."):
        raise InvalidArgument(f'invalid container ID format: "{id}"')
    return os.path.join(root, id)


def reserve(root: str, id: str) -> str:
    """Make the state directory of a new container; Conflict if the id is taken."""
    directory = directory_of(root, id)
    os.makedirs(root, mode=0o711, exist_ok=True)
    try:
        os.mkdir(directory, 0o711)
    except FileExistsError:
        raise Conflict(f"container with given ID already exists: {id}") from None
    return directory


@dataclass(slots=True)
class Container:
    """One container, as its state directory tells."""

    directory: str
    saved: state.SavedState

    @classmethod
    def load(cls, root: str, id: str) -> Container:
        """Find a container; raises NotFound."""
        directory = directory_of(root, id)
        try:
            return cls(directory, state.load(directory))
        except NotFound:
            raise NotFound(f"container {id} does not exist") from None

    @property
    def id(self) -> str:
        """The name it was created with."""
        return self.saved.id

    @property
    def cgroup(self) -> Cgroup | None:
        """Its control group, if it was given one."""
        return open_cgroup(self.saved.cgroup) if self.saved.cgroup else None

    def is_alive(self) -> bool:
        """Tell whether its init lives: that very process, and no zombie."""
        try:
            with open(f"/proc/{self.saved.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return fields[0] not in (b"Z", b"X") and int(fields[19]) == self.saved.start_time

    def status(self) -> Status:
        """Return the state of the life cycle, as the kernel tells it now."""
        if not self.is_alive():
            return "stopped"
        if os.path.exists(os.path.join(self.directory, state.FIFO)):
            return "created"
        cgroup = self.cgroup
        if cgroup is not None and cgroup.exists() and cgroup.is_frozen():
            return "paused"
        return "running"

    def state(self, status: Status | None = None) -> State:
        """Return the state document of the specification; no pid once it has stopped."""
        status = status or self.status()
        return State(
            oci_version=self.saved.oci_version,
            id=self.id,
            status=status,
            pid=0 if status == "stopped" else self.saved.pid,
            bundle=self.saved.bundle,
            annotations=self.saved.annotations,
        )

    def start(self) -> None:
        """Let a created container execute its program, and run its poststart hooks."""
        status = self.status()
        if status != "created":
            if status == "stopped":
                raise Conflict("cannot start a container that has stopped")
            raise Conflict("cannot start an already running container")
        fifo = os.path.join(self.directory, state.FIFO)
        try:
            fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno not in (errno.ENXIO, errno.ENOENT):
                raise
            raise Conflict("cannot start a container that has stopped") from None
        try:
            os.unlink(fifo)  # first: two starts at once must not both succeed
            os.write(fd, b"\0")
        except FileNotFoundError:
            raise Conflict("cannot start an already running container") from None
        finally:
            os.close(fd)
        document = hooks.encode_state(self.state("running"))
        hooks.run_all("poststart", hooks.prepare(self.saved.poststart), document)

    def kill(self, number: int, *, everyone: bool = False) -> None:
        """Send a signal to init, or to every process; Conflict if it does not run."""
        if everyone and self.cgroup is not None:
            if number == signals.SIGKILL:
                self.cgroup.kill()
            else:
                self.cgroup.signal(number)
            return
        pidfd = self.pidfd()
        try:
            namespaces.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            raise Conflict("container not running") from None
        finally:
            os.close(pidfd)

    def pidfd(self) -> int:
        """Return a pidfd of init; Conflict if it does not run."""
        try:
            pidfd = namespaces.pidfd_open(self.saved.pid)
        except OSError:
            raise Conflict("container not running") from None
        if not self.is_alive():  # asked after the pidfd was opened: so it is that process
            os.close(pidfd)
            raise Conflict("container not running")
        return pidfd

    def delete(self, *, force: bool = False) -> None:
        """Remove a stopped (or created) container; `force` kills it first. Runs poststop hooks.

        Conflict if it runs and `force` is not given. Raises Internal if it does not die.
        """
        status = self.status()
        if status not in ("stopped", "created") and not force:
            raise Conflict(f"cannot delete container {self.id} that is not stopped: {status}")
        if status != "stopped":
            self._kill_and_wait()
        cgroup = self.cgroup
        if cgroup is not None:
            with suppress(OSError):
                cgroup.kill()
            cgroup.remove()
        state.remove(self.directory)
        document = hooks.encode_state(self.state("stopped"))
        hooks.run_all("poststop", hooks.prepare(self.saved.poststop), document)

    def _kill_and_wait(self) -> None:
        try:
            pidfd = self.pidfd()
        except Conflict:
            return
        try:
            cgroup = self.cgroup
            if cgroup is not None:
                with suppress(OSError):
                    cgroup.kill()
            with suppress(ProcessLookupError):
                namespaces.pidfd_send_signal(pidfd, signals.SIGKILL)
            if not namespaces.wait_ended(pidfd, PATIENCE):
                raise Internal(f"container {self.id} does not end: init is still running")
        finally:
            os.close(pidfd)

    def pause(self) -> None:
        """Freeze every process; Conflict unless it is running or created."""
        if self.status() not in ("running", "created"):
            raise Conflict("container not running")
        self._group().freeze()

    def resume(self) -> None:
        """Let the processes run again; Conflict unless it is paused."""
        if self.status() != "paused":
            raise Conflict("container not paused")
        self._group().thaw()

    def pids(self) -> list[int]:
        """Return every process of the container, in the caller's pid namespace."""
        return self._group().pids()

    def update(self, resources: LinuxResources) -> list[str]:
        """Change the limits; return sentences on what cannot be done on this host."""
        if self.status() == "stopped":
            raise Conflict("container not running")
        return self._group().update(resources)

    def _group(self) -> Cgroup:
        cgroup = self.cgroup
        if cgroup is None:
            raise Conflict(f"container {self.id} has no cgroup of its own")
        return cgroup


def list_all(root: str) -> Iterator[Container]:
    """Yield every container with a state below `root`; broken ones are passed over."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    for name in names:
        with suppress(NotFound, Internal, InvalidArgument):
            yield Container.load(root, name)
