"""Published ports that no firewall rule serves: bytes are copied.

None can translate from the host's IPv6 addresses to containers that only have IPv4, and with
`--iptables=false` there are none at all. Such a port is a listening socket. A process for it is
forked when the first client comes, as nobody with no capabilities, and ends when it has had
nothing to do for a while: a port that nobody uses costs a descriptor. The container sees the
gateway as its client, as with Docker's proxy.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sampan.linux import capabilities
from sampan.linux.process import PR_SET_PDEATHSIG, close_range, prctl
from sampan.network.publishing.relaying import IP_PKTINFO, Target, TCPRelay, UDPRelay

log = logging.getLogger(__name__)

NOBODY: Final = 65534
BACKLOG: Final = 128
IPV6_RECVPKTINFO: Final = 49  # linux/in6.h


@dataclass(slots=True)
class _Relay:
    socket: socket.socket
    protocol: str
    target: Target
    pid: int = 0
    pidfd: int = -1


@dataclass(slots=True)
class Relays:
    """The sockets that wait for a first client, and the processes that serve one."""

    _relays: dict[int, _Relay] = field(default_factory=dict)  # by the socket's descriptor

    def add(self, sock: socket.socket, protocol: str, target: Target) -> None:
        """Serve `sock`, which stays the caller's, by connections to `target`."""
        if protocol not in ("tcp", "udp"):
            return
        sock.setblocking(False)
        if protocol == "tcp":
            sock.listen(BACKLOG)
        elif sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self._relays[sock.fileno()] = _Relay(sock, protocol, target)

    def remove(self, sock: socket.socket) -> None:
        """Serve it no longer, and end its process."""
        relay = self._relays.pop(sock.fileno(), None)
        if relay and relay.pid:
            with suppress(ProcessLookupError):
                os.kill(relay.pid, signal.SIGKILL)
            self._reap(relay)

    def watched(self) -> list[int]:
        """Return the descriptors for `handle`, when they are readable."""
        return [relay.pidfd if relay.pid else number for number, relay in self._relays.items()]

    def handle(self, descriptor: int) -> None:
        """A first client has come, or a process has ended."""
        if relay := self._relays.get(descriptor):
            if not relay.pid:
                self._start(relay)
            return
        for relay in self._relays.values():
            if relay.pidfd == descriptor:
                self._reap(relay)
                return

    def _start(self, relay: _Relay) -> None:
        pid = os.fork()
        if not pid:
            try:
                _become_nobody(relay.socket)
                kind = TCPRelay if relay.protocol == "tcp" else UDPRelay
                kind(relay.socket, relay.target).run()
            finally:
                os._exit(0)
        relay.pid, relay.pidfd = pid, os.pidfd_open(pid)
        log.debug("relay %d serves %s port %d", pid, *relay.target)

    def _reap(self, relay: _Relay) -> None:
        with suppress(ChildProcessError):
            os.waitpid(relay.pid, 0)
        os.close(relay.pidfd)
        relay.pid, relay.pidfd = 0, -1


def _become_nobody(sock: socket.socket) -> None:
    """Keep the socket and the log; lose the rest."""
    parent = os.getppid()
    keep = sock.fileno()
    close_range(3, keep - 1) if keep > 3 else None
    close_range(keep + 1)
    with suppress(PermissionError):  # not root: as a library
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    capabilities.capset(0, 0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
