"""Attributes of the calling process, changed in a child of the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from sampan.linux import namespaces, process


def in_child(action: Callable[[], object]) -> str:
    """Return what `action` returns, as text, from a forked child."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, str(action()).encode())
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return text


def test_dumpable_can_be_taken_away() -> None:
    def action() -> int:
        process.prctl(process.PR_SET_DUMPABLE, 0)
        return process.prctl(process.PR_GET_DUMPABLE)

    assert in_child(action) == "0"


def test_limits_are_set_and_read() -> None:
    def action() -> tuple[int, int]:
        number = process.RLIMITS["RLIMIT_NOFILE"]
        process.prlimit(0, number, (20, 30))
        return process.prlimit(0, number)

    assert in_child(action) == "(20, 30)"


def test_a_range_of_descriptors_is_closed() -> None:
    def action() -> list[str]:
        for number in (900, 950):
            os.dup2(2, number)
        process.close_range(900, 950)
        return [fd for fd in ("900", "950") if os.path.exists(f"/proc/self/fd/{fd}")]

    assert in_child(action) == "[]"


def test_signals_return_to_their_defaults() -> None:
    """In a new interpreter, as a process that has had threads catches more.

    Signals 32 and 33 belong to the C library, which ignores them in what posix_spawn(3) makes.
    """
    program = """
import signal
from sampan.linux import process
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGUSR2, print)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
process.default_signals()
print(open("/proc/self/status").read())
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    status = dict(line.split(":", 1) for line in done.stdout.decode().splitlines() if ":" in line)
    ours = ~(3 << 31)
    assert [int(status[name], 16) & ours for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_a_program_is_executed_from_a_descriptor() -> None:
    def action() -> None:
        fd = os.open("/bin/busybox", os.O_PATH)
        os.dup2(2, 1)
        process.execveat(fd, [b"true"], [])

    assert in_child(action) == ""


def test_pid_and_start_time_name_a_process() -> None:
    assert process.start_time(os.getpid()) == process.start_time(os.getpid()) > 0
    with pytest.raises(FileNotFoundError):
        process.start_time(2**22 + 1)


def test_scheduling_attributes_are_set() -> None:
    def action() -> int:
        process.sched_setattr(process.SCHEDULERS["SCHED_BATCH"], 0, 3, 0, 0, 0, 0)
        process.ioprio_set(process.IOPRIO_CLASSES["IOPRIO_CLASS_IDLE"], 0)
        return os.sched_getscheduler(0)

    assert in_child(action) == str(os.SCHED_BATCH)


def test_a_clone_returns_in_both_processes() -> None:
    def action() -> str:
        assert namespaces.is_single_threaded()
        read, write = os.pipe()
        pid, pidfd = namespaces.clone3(0)
        if pid == 0:
            os.write(write, str(os.getppid()).encode())
            os._exit(5)
        assert os.waitpid(pid, 0)[1] == 5 << 8
        assert os.read(read, 20) == str(os.getpid()).encode()
        assert namespaces.pidfd_exit_status(pidfd) in (5 << 8, None)
        with pytest.raises(ProcessLookupError):
            namespaces.pidfd_send_signal(pidfd, 0)
        return "all is well"

    assert in_child(action) == "all is well"


def test_a_clone_that_the_kernel_refuses_raises() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        namespaces.clone3(1 << 62)


def test_our_own_namespaces_are_the_same() -> None:
    assert all(namespaces.is_same(os.getpid(), kind) for kind in namespaces.KINDS)
