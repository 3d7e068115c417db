"""Raw system calls and their errors."""

from __future__ import annotations

import errno
import os

import pytest

from sampan.linux import libc


def test_a_call_returns_its_result() -> None:
    assert libc.syscall(libc.NR["gettid"]) == os.getpid()


def test_a_failed_call_raises_the_fitting_error() -> None:
    with pytest.raises(FileNotFoundError):
        libc.syscall(libc.NR["openat"], -100, b"/no/such/file", os.O_RDONLY)


def test_an_integer_keeps_all_its_64_bits() -> None:
    with pytest.raises(OSError) as caught:
        libc.syscall(libc.NR["openat"], -1, b"relative", os.O_RDONLY)
    assert caught.value.errno == errno.EBADF


def test_check_names_what_was_worked_on() -> None:
    with pytest.raises(OSError) as caught:
        libc.check(libc.libc.chdir(b"/no/such/place"), b"/no/such/place", "second")
    assert caught.value.filename == "/no/such/place"
    assert caught.value.filename2 == "second"
    assert isinstance(caught.value, FileNotFoundError)
    assert libc.check(7) == 7


def test_both_machines_know_the_same_calls() -> None:
    assert libc._X86_64.keys() == libc._AARCH64.keys()
    assert len(set(libc.NR.values())) == len(libc.NR)
