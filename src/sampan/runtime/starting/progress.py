"""How far a start has come: what init reports, and what has to be undone when it fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from sampan.errors import Internal, InvalidArgument, SampanError
from sampan.linux import namespaces, seccomp
from sampan.linux.cgroups.cgroup import Cgroup
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.runtime import state
from sampan.runtime.starting import channel as ch
from sampan.runtime.starting.channel import Channel, reason
from sampan.spec.runtime import LinuxSeccomp, State

PATIENCE = 2.0  # seconds that a killed init may take to die


@dataclass(slots=True)
class Progress:
    """What exists so far of a start, for the report and for the cleaning up."""

    pid: int = 0
    pidfd: int = -1
    master: int = -1
    helpers: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    cgroup: Cgroup | None = None
    created: bool = False  # the cgroup is ours to remove
    state_dir: str = ""  # ours to remove, too
    filtered: bool = False  # init runs under a seccomp filter


@dataclass(frozen=True, slots=True)
class Agent:
    """Who gets the notifications of a seccomp filter, and what it is told."""

    profile: LinuxSeccomp
    state: State


def follow(
    progress: Progress,
    channel: Channel,
    agent: Agent | None = None,
    *,
    hold: bool = False,
    host_hooks: Callable[[], None] | None = None,
) -> None:
    """Serve init until it has executed the program (with `hold`, until it waits for `start`)."""
    ready = False
    while True:
        tag, text, fd = channel.receive()
        if tag == ch.MASTER:
            progress.master = fd
        elif tag == ch.HOOKS and host_hooks is not None:
            host_hooks()
            channel.send(ch.GO)
        elif tag == ch.WARNING:
            progress.warnings.append(text.decode("utf-8", "replace"))
        elif tag == ch.LISTENER and agent is not None:
            agent.state.pid = agent.state.pid or progress.pid
            seccomp.send_listener(agent.profile, agent.state, progress.pid, fd)
            os.close(fd)
        elif tag == ch.BORN:  # of a sibling, which is about to end
            progress.helpers.append(progress.pid)
            os.close(progress.pidfd)
            progress.pid, progress.pidfd = int(text), fd
        elif tag == ch.CLAIMED:
            progress.state_dir = os.fsdecode(text)
        elif tag == ch.CGROUP:
            progress.cgroup, progress.created = open_cgroup(os.fsdecode(text)), True
        elif tag == ch.READY:
            ready = True
            if hold:
                return
        elif tag or not ready:
            if not tag and progress.cgroup is not None and progress.cgroup.oom_kills():
                raise InvalidArgument("container init was OOM-killed (memory limit too low?)")
            raise received_error(tag, text, filtered=progress.filtered)
        else:
            return  # closed by the execution


def received_error(tag: bytes, text: bytes, *, filtered: bool = False) -> SampanError:
    """Return the error that init reported, or that of an init which died without a word."""
    if tag != ch.ERROR and filtered:
        return InvalidArgument(
            "the container's init was killed before it could start the program: its seccomp "
            "profile may refuse what that needs"
        )
    if tag != ch.ERROR:
        return Internal("the container's init was killed before it could start the program")
    code, _, message = text.partition(b"\0")
    kind = SampanError.by_code.get(code.decode("ascii", "replace"), Internal)
    return kind(message.decode("utf-8", "replace"))


def as_sampan_error(error: BaseException) -> SampanError:
    """Return an error that may cross a boundary; a refusal of the kernel blames the request."""
    if isinstance(error, SampanError):
        return error
    if isinstance(error, OSError):
        about = f": {error.filename}" if error.filename else ""
        return InvalidArgument(f"{reason(error)}{about}")
    return Internal(f"{type(error).__name__}: {error}")


def clean_up(progress: Progress) -> None:
    """Kill and remove all that a failed start has made."""
    if progress.state_dir:
        state.remove(progress.state_dir)
    if progress.pidfd >= 0:
        with suppress(ProcessLookupError):
            namespaces.pidfd_send_signal(progress.pidfd, signal.SIGKILL)
        namespaces.wait_ended(progress.pidfd, PATIENCE)
    if progress.cgroup is not None and progress.created:
        with suppress(OSError):
            progress.cgroup.kill()
        with suppress(OSError):
            progress.cgroup.remove()
