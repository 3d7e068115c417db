"""What is asked of `launch` and `launch_exec`, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field

from sampan.rpc import Fd
from sampan.runtime.roots.sources import BindSource
from sampan.spec.runtime import LinuxSeccomp, Process, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """One container to start. Descriptors are lent: the caller keeps and closes them."""

    id: str
    spec: Spec
    root: int | str  # descriptor of a detached mount, or the path of a directory
    bundle: str = ""  # for hooks and the state; relative mount sources start here
    network: int | None = None  # descriptor of a network namespace to join
    user_namespace: int | None = None  # descriptor of one to join; the spec has its maps
    sources: dict[str, BindSource] = field(default_factory=dict)  # of binds, by destination
    pull_in: dict[str, int] = field(default_factory=dict)  # namespace type → pid to join it from
    donors: dict[int, int] = field(default_factory=dict)  # pid of `pull_in` → pidfd, to be sure
    state_dir: str = ""  # state.json is written here (and exec.fifo with `hold`); "" for none
    stdio: tuple[int, int, int] | None = None  # None: those of the caller; unused with a terminal
    console_socket: str = ""  # with a terminal: send its master there instead of returning it
    cgroup: str = ""  # path below each hierarchy; "" leaves the process in the caller's
    hold: bool = False  # OCI create: execute the program when `container.start` is called
    pass_fds: tuple[int, ...] = ()  # become 3, 4, … of the program
    listen_fds: bool = False  # set LISTEN_FDS and LISTEN_PID for pass_fds
    no_pivot: bool = False  # move the root over / instead of pivot_root(2)
    systemd_cgroup: bool = False  # recorded in the state, for the command line
    keep_seccomp: bool = False  # record the filter in the state, for later execs
    seccomp_cache: str = ""  # directory of compiled filters; "" keeps them in memory only
    user: str | None = None  # looked up in the root, by the new process, instead of the spec's
    groups: list[str] = field(default_factory=list)  # more groups, looked up with `user`


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """One more process for a running container. Descriptors are lent."""

    id: str
    process: Process
    pid: int  # the container's init, in the caller's pid namespace
    pidfd: int | None = None  # of that init; opened from `pid` without it
    cgroup: str = ""
    seccomp: LinuxSeccomp | None = None  # the filter of the container's own spec
    stdio: tuple[int, int, int] | None = None
    console_socket: str = ""
    pass_fds: tuple[int, ...] = ()
    listen_fds: bool = False
    bundle: str = ""  # for the agent of a seccomp filter with a listener
    seccomp_cache: str = ""
    user: str | None = None  # as in LaunchRequest
    groups: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Launched:
    """A process that runs (or waits for `start`, with `hold`). The caller owns the descriptors."""

    pid: int
    pidfd: Fd
    master: Fd | None  # of the terminal, unless it went to a console socket
    warnings: list[str]
    cgroup: str
    started_at: int  # nanoseconds since the epoch
