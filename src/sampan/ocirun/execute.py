"""`exec`: one more process in a container."""

from __future__ import annotations

import os

from sampan.errors import Conflict, InvalidArgument
from sampan.ocirun import bundle as bundles
from sampan.ocirun.context import Context
from sampan.ocirun.creation import descriptors, write_pid
from sampan.ocirun.flags import Arguments, flag
from sampan.ocirun.foreground import Foreground
from sampan.runtime.container import Container
from sampan.runtime.starting.launch import ExecRequest, launch_exec
from sampan.spec.runtime import LinuxCapabilities, Process

FLAGS = (
    flag("--process -p", "process.json to execute", "FILE"),
    flag("--detach -d", "do not wait for the end of the process"),
    flag("--tty -t", "allocate a terminal"),
    flag("--console-socket", "socket that receives the master of the terminal", "PATH"),
    flag("--pid-file", "file to write the pid to", "FILE"),
    flag("--cwd", "working directory", "DIR"),
    flag("--env -e", "set an environment variable", "NAME=VALUE", is_list=True),
    flag("--user -u", "UID[:GID]", "USER"),
    flag("--additional-gids -g", "one more group", "GID", is_list=True),
    flag("--cap -c", "add a capability", "CAP", is_list=True),
    flag("--no-new-privs", "set no_new_privs"),
    flag("--apparmor", "AppArmor profile", "PROFILE"),
    flag("--process-label", "SELinux label", "LABEL"),
    flag("--preserve-fds", "give the process N more descriptors", "N"),
    flag("--cgroup", "run in a cgroup below the container's", "PATH"),
    flag("--ignore-paused", "allow it in a paused container"),
    flag("--no-subreaper", "accepted and ignored"),
)
USAGE = "CONTAINER COMMAND [ARGUMENT...]"
OPERANDS = (1, None)


def run(context: Context, given: Arguments) -> int:
    """Execute the process; return its exit status, or 0 if detached."""
    container = Container.load(context.root, given.operands[0])
    _check_status(container, given)
    process = _process(container, given)
    detached = given.has("detach")
    socket = given.get("console-socket")
    if process.terminal and detached and not socket:
        text = "cannot allocate tty if the runtime will detach without setting console socket"
        raise InvalidArgument(text)
    if socket and not process.terminal:
        raise InvalidArgument("cannot use console socket if the process has no tty")
    pass_fds, listen_fds = descriptors(given)
    pidfd = container.pidfd()
    try:
        launched = launch_exec(
            ExecRequest(
                id=container.id,
                process=process,
                pid=container.saved.pid,
                pidfd=pidfd,
                cgroup=_cgroup(container, given.get("cgroup")),
                seccomp=container.saved.seccomp,
                console_socket=socket,
                pass_fds=pass_fds,
                listen_fds=listen_fds,
                bundle=container.saved.bundle,
                seccomp_cache=context.seccomp_cache,
            )
        ).finish()
    finally:
        os.close(pidfd)
    context.warn(launched.warnings)
    write_pid(given.get("pid-file"), launched.pid)
    if detached:
        return 0
    with Foreground(launched) as foreground:
        return foreground.wait()


def _check_status(container: Container, given: Arguments) -> None:
    status = container.status()
    if status == "stopped":
        raise Conflict("cannot exec in a stopped container")
    if status == "paused" and not given.has("ignore-paused"):
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")


def _process(container: Container, given: Arguments) -> Process:
    """Return the process to execute: from a file, or the container's own with changes."""
    if path := given.get("process"):
        return bundles.load_process(path)
    args = given.operands[1:]
    if not args:
        raise InvalidArgument("exec needs a command, or --process")
    process = bundles.load(container.saved.bundle).process or Process()
    process.args = args
    process.terminal = given.has("tty")
    process.console_size = None
    process.env = [*process.env, *given.list("env")]
    process.cwd = given.get("cwd", process.cwd)
    process.apparmor_profile = given.get("apparmor", process.apparmor_profile)
    process.selinux_label = given.get("process-label", process.selinux_label)
    process.no_new_privileges = process.no_new_privileges or given.has("no-new-privs")
    if given.get("user"):
        process.user.uid, process.user.gid = _user(given.get("user"), process.user.gid)
    process.user.additional_gids += [_id(each) for each in given.list("additional-gids")]
    if added := given.list("cap"):
        _add_capabilities(process, added)
    return process


def _user(text: str, gid: int) -> tuple[int, int]:
    user, colon, group = text.partition(":")
    return _id(user), _id(group) if colon else gid


def _id(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > (1 << 31) - 1:
        raise InvalidArgument(f"invalid user or group id {text!r}")
    return int(text)


def _add_capabilities(process: Process, names: list[str]) -> None:
    """Add to bounding, effective and permitted; to the ambient set if there is one already."""
    sets = process.capabilities = process.capabilities or LinuxCapabilities()
    for listed in (sets.bounding, sets.effective, sets.permitted):
        listed += [name for name in names if name not in listed]
    if sets.ambient:
        sets.ambient += [name for name in names if name not in sets.ambient]


def _cgroup(container: Container, below: str) -> str:
    """Return the cgroup of the process; a path in the option stays below the container's."""
    if not below:
        return container.saved.cgroup
    path = below.partition(":")[2] if ":" in below else below
    if ".." in path.split("/"):
        raise InvalidArgument(f"invalid cgroup path {below!r}")
    return f"{container.saved.cgroup}/{path.strip('/')}"
