"""From the options of `create` and `run` to a container that waits for `start`."""

from __future__ import annotations

import os
from dataclasses import dataclass

from sampan.errors import InvalidArgument
from sampan.ocirun import bundle as bundles
from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, flag
from sampan.runtime import container, state
from sampan.runtime.starting.launch import Launched, LaunchRequest, launch
from sampan.spec.runtime import Spec

FLAGS = (
    flag("--bundle -b", "the bundle directory (default: the current one)", "DIR"),
    flag("--config -f", "name of the configuration in the bundle", "FILE"),
    flag("--console-socket", "socket that receives the master of the terminal", "PATH"),
    flag("--pid-file", "file to write the pid of init to", "FILE"),
    flag("--no-pivot", "do not use pivot_root(2)"),
    flag("--no-new-keyring", "accepted; the container always gets a keyring of its own"),
    flag("--no-subreaper", "do not collect orphaned processes"),
    flag("--preserve-fds", "give the container N more descriptors", "N"),
)


@dataclass(frozen=True, slots=True)
class Created:
    """A container that waits."""

    spec: Spec
    launched: Launched


def create(context: Context, given: Arguments, *, detached: bool) -> Created:
    """Create a container; after a failure nothing is left of it."""
    (name,) = given.operands
    directory = os.path.abspath(given.get("bundle", "."))
    spec = bundles.load(directory, given.get("config", "config.json"))
    _check_terminal(spec, given, detached=detached)
    root = bundles.rootfs(directory, spec)
    pass_fds, listen_fds = descriptors(given)
    home = container.reserve(context.root, name)
    try:
        launched = launch(
            LaunchRequest(
                id=name,
                spec=spec,
                root=root,
                bundle=directory,
                state_dir=home,
                console_socket=given.get("console-socket"),
                cgroup=bundles.cgroup_path(spec, name, systemd=context.systemd_cgroup),
                hold=True,
                pass_fds=pass_fds,
                listen_fds=listen_fds,
                no_pivot=given.has("no-pivot"),
                systemd_cgroup=context.systemd_cgroup,
                keep_seccomp=True,
                seccomp_cache=context.seccomp_cache,
            )
        ).finish()
    except BaseException:
        state.remove(home)
        raise
    try:
        write_pid(given.get("pid-file"), launched.pid)
    except BaseException:
        container.Container.load(context.root, name).delete(force=True)
        raise
    context.warn(launched.warnings)
    return Created(spec, launched)


def _check_terminal(spec: Spec, given: Arguments, *, detached: bool) -> None:
    has_terminal = bool(spec.process and spec.process.terminal)
    socket = given.get("console-socket")
    if detached and has_terminal and not socket:
        text = "cannot allocate tty if the runtime will detach without setting console socket"
        raise InvalidArgument(text)
    if socket and not (detached and has_terminal):
        text = "cannot use console socket if the runtime will not detach or allocate tty"
        raise InvalidArgument(text)


def descriptors(given: Arguments) -> tuple[tuple[int, ...], bool]:
    """Return the descriptors to hand on, and whether they are systemd's LISTEN_FDS.

    Raises InvalidArgument for one that is not open.
    """
    listening = os.environ.get("LISTEN_FDS", "")
    count = int(listening) if listening.isdigit() else 0
    extra = given.number("preserve-fds")
    if not 0 <= extra <= 1 << 16:
        raise InvalidArgument(f'invalid value "{extra}" for flag --preserve-fds')
    numbers = tuple(range(3, 3 + count + extra))
    for number in numbers:
        try:
            os.fstat(number)
        except OSError:
            raise InvalidArgument(
                f"unable to preserve fd {number}: it is not open (wrong --preserve-fds?)"
            ) from None
    return numbers, count > 0


def write_pid(path: str, pid: int) -> None:
    """Write a pid file, whole or not at all; "" for none."""
    if not path:
        return
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}")
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666
    )
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)
    os.rename(temporary, path)
