"""Processes that die at a counted step: every step that changes the host or a record counts."""

from __future__ import annotations

import mmap
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sampan.engine.networks.database import NetworkDatabase
from sampan.network import sandbox
from sampan.network.drivers import bridge
from sampan.network.firewall import iptables, nftables
from sampan.network.netlink.protocol import NetlinkSocket

STEPS: tuple[tuple[Any, str], ...] = (
    (NetlinkSocket, "attempt"),
    (nftables.Nftables, "_run"),
    (iptables, "_run"),
    (bridge, "write_sysctl"),
    (sandbox, "write_sysctl"),
    (os, "replace"),
    (Path, "write_bytes"),
    (Path, "unlink"),
    (os, "posix_spawn"),
    (NetworkDatabase, "save"),
    (NetworkDatabase, "delete"),
)


class Countdown:
    """How many steps a process has left to live; shared with it. 0: it is not to die."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    @property
    def left(self) -> int:
        """The steps that are left."""
        number: int = struct.unpack("q", self._memory[:8])[0]
        return number

    @left.setter
    def left(self, number: int) -> None:
        self._memory[:8] = struct.pack("q", number)

    def install(self, steps: tuple[tuple[Any, str], ...] = STEPS) -> None:
        """Have this process, a child that is good for nothing else, die when there are none."""

        def counted(step: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                if left := self.left:
                    self.left = left - 1
                    if left == 1:
                        os.kill(os.getpid(), signal.SIGKILL)
                return step(*arguments, **named)

            return call

        for owner, name in steps:
            setattr(owner, name, counted(getattr(owner, name)))

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()


def forked(work: Callable[[], object]) -> int:
    """Run `work` in a child, which then ends; return its pid."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def was_killed(child: int) -> bool:
    """Wait for a child; tell whether it was killed. It must have come to its end else."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed"
    return False
