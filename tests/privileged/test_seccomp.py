"""Filters in the kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from sampan.linux import quota, seccomp
from sampan.linux.libc import MACHINE, NR, syscall
from sampan.runtime.confinement.seccomp_profile import default_profile
from sampan.runtime.defaults import CAPABILITIES
from sampan.spec.runtime import LinuxSeccomp, LinuxSyscall, State

SOCKET = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
pytestmark = pytest.mark.privileged
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[MACHINE]
DEFAULT = default_profile(ARCHITECTURE, CAPABILITIES, (6, 1))


def errno_under(profile: LinuxSeccomp, call: Callable[[], object]) -> int:
    """Load the filter in a child and return the errno of `call` there, 0 if it succeeds."""
    prepared = seccomp.compile_filter(profile)[0].prepare()
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            prepared.load()
            call()
            code = 0
        except OSError as failure:
            code = failure.errno or 254
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: os.getpid(), 0),
        (lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), 0),
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM), 0),
        (lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET), errno.EPERM),
        (lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM), errno.EPERM),
        (lambda: syscall(SOCKET, 1 << 32 | socket.AF_INET, 1, 0), 0),
        (lambda: syscall(NR["unshare"], 0x20000000), errno.EPERM),
        (lambda: syscall(NR["mount"], b"a", b"/", b"tmpfs"), errno.EPERM),
        (lambda: syscall(NR["clone3"], None, 0), errno.ENOSYS),
        (lambda: syscall(NR["keyctl"], 0, 0), errno.EPERM),
        (lambda: syscall(425, 1, None), errno.EPERM),  # io_uring_setup
        (lambda: syscall(999), errno.ENOSYS),
        (lambda: syscall(NR["personality"], 0xFFFFFFFF), 0),
        (lambda: syscall(NR["personality"], 0x0400000), errno.EPERM),
    ],
)
def test_the_default_profile_refuses_what_docker_refuses(
    call: Callable[[], object], expected: int
) -> None:
    assert errno_under(DEFAULT, call) == expected


@pytest.mark.parametrize("family", [socket.AF_ALG, socket.AF_VSOCK])
@pytest.mark.parametrize("above", [0, 1 << 32, 1 << 63])
def test_cve_2026_31431_no_call_opens_a_crypto_socket(family: int, above: int) -> None:
    """The kernel reads 32 bits of the family; bits above them must not make it another one."""
    call = partial(syscall, SOCKET, above | family, socket.SOCK_SEQPACKET, 0)
    assert errno_under(DEFAULT, call) == errno.EPERM


def test_fork_goes_on_to_work() -> None:
    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    assert errno_under(DEFAULT, fork) == 0


def test_a_listener_reaches_its_agent(tmp_path: Path) -> None:
    profile = LinuxSeccomp(
        default_action="SCMP_ACT_ALLOW",
        listener_path=str(tmp_path / "agent"),
        listener_metadata="meta",
        syscalls=[LinuxSyscall(names=["mkdir"], action="SCMP_ACT_NOTIFY")],
    )
    state = State(oci_version="1.2.1", id="c", status="creating", pid=7, bundle="/b")
    reader, writer = os.pipe()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(profile.listener_path)
        server.listen()
        seccomp.send_listener(profile, state, 7, reader)
        peer, _ = server.accept()
        with peer:
            message, fds, _, _ = socket.recv_fds(peer, 1 << 16, 4)
    os.close(reader)
    os.close(writer)
    document = msgspec.json.decode(message)
    assert document["fds"] == ["seccompFd"]
    assert (document["pid"], document["metadata"], document["state"]["id"]) == (7, "meta", "c")
    assert len(fds) == 1
    os.close(fds[0])


def test_loading_a_listener_returns_its_descriptor() -> None:
    profile = LinuxSeccomp(
        default_action="SCMP_ACT_ALLOW",
        listener_path="/agent",
        syscalls=[LinuxSyscall(names=["mkdir"], action="SCMP_ACT_NOTIFY")],
    )
    compiled = seccomp.compile_filter(profile)[0]
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            listener = seccomp.load(compiled)
            code = 0 if "seccomp" in os.readlink(f"/proc/self/fd/{listener}") else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_sized_container_cannot_give_its_files_another_project(tmp_path: Path) -> None:
    profile = default_profile(ARCHITECTURE, CAPABILITIES, (6, 1), sized=True)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert errno_under(profile, lambda: quota.set_project(fd, 0)) == errno.EPERM
        again = 0x5A5A5A5A_401C5820  # of which the kernel reads the lower half
        assert errno_under(profile, lambda: syscall(NR["ioctl"], fd, again, None)) == errno.EPERM
        assert errno_under(profile, lambda: fcntl.ioctl(fd, 0x801C581F, bytearray(28))) == 0
        assert errno_under(DEFAULT, lambda: quota.set_project(fd, 0)) != errno.EPERM
    finally:
        os.close(fd)
