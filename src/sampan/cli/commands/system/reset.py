"""Remove the engine's data, containers and networks from this machine."""

from __future__ import annotations

import os

from sampan.cli.arguments.flags import flag
from sampan.cli.daemon_program import NAME, become
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = ""
OPERANDS = (0, 0)
LONG = """The daemon is ended; all containers, networks, volumes, images and the build cache are
removed, with bridges, firewall rules, mounts, cgroups and folders. It needs root. What a daemon
has that does not run is found by daemon.json, or by these options."""


class Options:
    data_root: str = flag("", "Where the engine keeps its data", default="")
    exec_root: str = flag("", "Where the engine keeps what ends with the machine", default="")
    force: bool = flag("f", "Do not ask")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    """Become the daemon's program, which does it: it needs no running daemon."""
    arguments = ["--reset", *_started_with(cli)]
    for name, value in (("data-root", options.data_root), ("exec-root", options.exec_root)):
        if value:
            arguments.append(f"--{name}={value}")
    if options.force:
        arguments.append("--force")
    become(arguments)


def _started_with(cli: Invocation) -> list[str]:
    """Return the options of the daemon that is spoken to; none if it does not run."""
    import socket
    import struct

    path = cli.client.endpoint.path
    if not path:
        raise Exit(1, f"{cli.client.endpoint.host} may be another machine: a reset is for this one")
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
            # Whoever has called listen(2): the supervisor.
            told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            with open(f"/proc/{struct.unpack('3i', told)[0]}/cmdline", "rb") as file:
                words = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
        except OSError:
            return []
    # An interpreter and what it interprets; a service's socket is systemd's.
    names = [os.path.basename(word) for word in words[:2]]
    return words[names.index(NAME) + 1 :] if NAME in names else []
