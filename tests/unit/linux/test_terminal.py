"""Pseudo-terminals by descriptor."""

from __future__ import annotations

import os

import pytest

from sampan.linux import terminal


def test_the_slave_is_opened_from_its_master() -> None:
    ptmx = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    master, slave = terminal.open_pty(ptmx)
    try:
        terminal.verify_slave(slave)
        terminal.set_window_size(master, 12, 34)
        assert terminal.window_size(slave) == (12, 34)
        os.write(slave, b"x")
        assert os.read(master, 10) == b"x"
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("path", ["/dev/null", "/etc/passwd"])
def test_what_is_no_terminal_is_refused(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    for verify in (terminal.verify_ptmx, terminal.verify_slave):
        with pytest.raises(OSError, match="No such device"):
            verify(fd)
    os.close(fd)
