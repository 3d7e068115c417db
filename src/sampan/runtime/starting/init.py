"""What runs inside: the ordered steps from the clone to execve(2).

Everything that these steps need is in `Setup`, prepared by the supervisor. From `rootfs.pivot` on,
a file that Python opened by name would be the container's: so nothing is imported, no codec, user
or locale is looked up, nothing is logged; errors go to the supervisor as preformatted bytes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from sampan.errors import InvalidArgument
from sampan.linux import mounts, namespaces, paths, process
from sampan.linux.cgroups.cgroup import Entry
from sampan.runtime import hooks
from sampan.runtime.roots import devices, mounting, rootfs
from sampan.runtime.roots.options import Planned
from sampan.runtime.starting import channel as ch
from sampan.runtime.starting import execution, program
from sampan.runtime.starting.channel import Channel, reason
from sampan.spec.runtime import LinuxDevice

SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914  # linux/sockios.h
IFF_UP = 1  # linux/if.h
Entrance = Callable[[], NoReturn]
KEY_USR_SEARCH = 0x00080000  # linux/keyctl.h: the user may find the keyring


@dataclass(slots=True)
class Setup:
    """A container, prepared: what its init does, in the order of its steps."""

    id: bytes
    entry: Entry | None
    born_inside: bool  # clone3 has put the process into the unified cgroup
    waits: bool  # for the supervisor, before the first step
    new_user: bool
    new_cgroup: bool
    joins: list[tuple[int, int]]  # (descriptor, clone flag)
    loopback: bool
    root: int | bytes
    propagation: str
    mounts: list[Planned]
    cgroups: mounting.CgroupView
    devices: list[LinuxDevice]
    bind_devices: bool
    external_hooks: bool
    create_container: list[hooks.Prepared]
    start_container: list[hooks.Prepared]
    state: bytes  # for hooks
    no_pivot: bool
    read_only_root: bool
    hostname: bytes
    domainname: bytes
    sysctls: list[tuple[bytes, bytes]]  # (path below /proc/sys, value)
    read_only: list[bytes]
    masked: list[bytes]
    program: program.Program
    fifo: int  # of `hold`; -1 without
    alive: int = -1  # closed by the execution, which is how the caller learns of it


def run(setup: Setup, channel: Channel) -> NoReturn:
    """Do all steps and execute the program; ends the process if one fails."""
    try:
        _steps(setup, channel)
    except OSError as error:
        channel.fail(InvalidArgument(f"error during container init: {reason(error)}"))
    except BaseException as error:  # noqa: BLE001 - the process ends here, whatever happened
        channel.fail(error)
    finally:
        os._exit(1)


def _steps(setup: Setup, channel: Channel) -> None:
    process.prctl(process.PR_SET_DUMPABLE, 0)  # CVE-2016-9962
    _enter_namespaces(setup, channel)
    os.umask(0)
    os.setsid()
    proc = paths.open_proc()  # of the host: no mount of the container can redirect it
    masks = rootfs.Masks.prepare(len(setup.masked))
    root, made = _build_root(setup)
    if setup.external_hooks:
        channel.send(ch.HOOKS)
        channel.expect(ch.GO)
    hooks.run_all("createContainer", setup.create_container, setup.state)
    program.set_home(setup.program, root)
    _warm_up()
    # --- from here on the root directory is the container's ---
    (rootfs.move_and_chroot if setup.no_pivot else rootfs.pivot)(root)
    slave = _terminal(setup, made, root, channel)
    for mount in made.read_only:
        mounts.mount_setattr(mount, b"", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_RDONLY)
    _working_directory(setup.program.cwd)
    rootfs.set_root_propagation(root, setup.propagation)
    if setup.read_only_root:
        rootfs.make_root_read_only(root)
    if setup.hostname:
        namespaces.sethostname(setup.hostname)
    if setup.domainname:
        namespaces.setdomainname(setup.domainname)
    execution.label(setup.program, proc)
    _write_sysctls(proc, setup.sysctls)
    for path in setup.read_only:
        rootfs.make_read_only(root, path)
    for path in setup.masked:
        rootfs.mask(root, path, masks)
    masks.close()
    kept = setup.fifo if setup.fifo >= 0 else setup.alive
    start = (setup.start_container, setup.state)
    finish(setup.program, channel, slave, kept, start, hold=setup.fifo >= 0)


def finish(
    prepared: program.Program,
    channel: Channel,
    slave: int,
    kept: int = -1,
    start_hooks: tuple[list[hooks.Prepared], bytes] = ([], b""),
    *,
    hold: bool = False,
) -> None:
    """Do the steps that a container's init and an exec have in common; does not return.

    `kept` is a descriptor that stays open until the execution; with `hold` it is a fifo on which
    to wait.
    """
    execution.connect(prepared, slave)
    kept = execution.arrange(prepared, channel, kept)
    execution.limit(prepared)
    execution.schedule(prepared)
    os.umask(prepared.umask)
    if not prepared.no_new_privileges:
        execution.load_filter(prepared, channel)  # needs CAP_SYS_ADMIN, which is about to go
    execution.drop_privileges(prepared)
    path = execution.look_up(prepared)
    if prepared.no_new_privileges:
        execution.load_filter(prepared, channel)
    channel.send(ch.READY)
    if hold and not os.read(kept, 1):
        os._exit(1)
    hooks.run_all("startContainer", *start_hooks)
    execution.execute(prepared, path, max(channel.fileno(), kept))


def _enter_namespaces(setup: Setup, channel: Channel) -> None:
    """Enter the cgroup and every namespace that clone3 could not make."""
    if setup.entry is not None:
        setup.entry.enter(into=setup.born_inside)
        setup.entry.close()
    if setup.waits:
        channel.expect(ch.GO)
    if setup.new_user:
        become_root()
    for fd, kind in setup.joins:
        try:
            namespaces.setns(fd, kind)
        except OSError as error:
            raise InvalidArgument(f"failed to join a namespace: {reason(error)}") from None
    if setup.new_cgroup:
        namespaces.unshare(namespaces.CLONE_NEWCGROUP)
    if setup.loopback:
        raise_loopback()
    join_keyring(setup.id)


def become_root() -> None:
    """Take the ids 0 of the user namespace just entered, where they are mapped."""
    for change in (process.setresgid, process.setresuid):
        try:
            change(0)
        except OSError as error:
            if error.errno != errno.EINVAL:  # not mapped: we keep the overflow id
                raise


def raise_loopback() -> None:
    """Set the loopback interface of a new network namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        request = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack("16xh14x", request)
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def join_keyring(id: bytes) -> None:
    """Join a session keyring of our own, so that the host's keys are out of reach."""
    try:
        serial = process.join_session_keyring(b"_ses." + id)
        wanted = process.keyring_permissions(serial) | KEY_USR_SEARCH
        process.set_keyring_permissions(serial, wanted)
    except OSError as error:
        # A kernel without keys, an outer seccomp filter, or a full quota: as runc, go on without.
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EDQUOT, errno.EACCES):
            raise


def _build_root(setup: Setup) -> tuple[int, mounting.Made]:
    """Attach the root and make all mounts and devices below it."""
    rootfs.isolate(setup.propagation)
    try:
        if isinstance(setup.root, int):
            rootfs.isolate_tree(setup.root, setup.propagation)
            root = rootfs.attach(setup.root)
        else:
            root = rootfs.attach(rootfs.clone_root(setup.root))
    except OSError as error:
        raise InvalidArgument(f"cannot attach the root file system: {reason(error)}") from None
    made = mounting.make_all(root, setup.mounts, setup.cgroups)
    if not made.dev_is_bound:
        devices.make_all(root, setup.devices, bind=setup.bind_devices)
    return root, made


def _warm_up() -> None:
    """Do once what may make Python or the C library look something up on first use."""
    b"".decode("utf-8", "replace")
    "".encode("utf-8", "replace")
    str(OSError(errno.ENOENT, os.strerror(errno.ENOENT), b"/"))
    os.getcwdb()


def _terminal(setup: Setup, made: mounting.Made, root: int, channel: Channel) -> int:
    """Open the container's terminal and hand its master over; -1 without one."""
    if not setup.program.terminal:
        return -1
    master, slave = execution.open_terminal(made.devpts, root)
    if not made.dev_is_bound:
        rootfs.bind_console(root, slave)
    channel.send(ch.MASTER, b"", master)
    os.close(master)
    return slave


def _working_directory(cwd: bytes) -> None:
    """Make the working directory if it is missing; we are inside the root already."""
    try:
        os.mkdir(cwd, 0o755)
    except FileNotFoundError:
        parts = [part for part in cwd.split(b"/") if part]
        for end in range(1, len(parts) + 1):
            try:
                os.mkdir(b"/" + b"/".join(parts[:end]), 0o755)
            except FileExistsError:
                continue
            except OSError:
                return  # chdir will say what is wrong
    except OSError:
        return


def _write_sysctls(proc: int, sysctls: list[tuple[bytes, bytes]]) -> None:
    for path, value in sysctls:
        try:
            paths.write_proc(proc, b"sys/" + path, value)
        except OSError as error:
            name = path.replace(b"/", b".").decode("utf-8", "replace")
            raise InvalidArgument(f"failed to write sysctl {name}: {reason(error)}") from None
