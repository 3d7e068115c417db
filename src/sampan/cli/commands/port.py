"""List the published ports of a container, or find one."""

from __future__ import annotations

from sampan.cli.containers.columns import host_port
from sampan.cli.display.natural import natural_order
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [PRIVATE_PORT[/PROTO]]"
ALIASES = "container port, port"
OPERANDS = (1, 2)


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    container = operands[0]
    published = cli.client.containers.inspect(container)["NetworkSettings"]["Ports"] or {}
    lines: list[str] = []
    if len(operands) == 2:
        port, _, protocol = operands[1].partition("/")
        if not (port.isascii() and port.isdigit()):
            raise Exit(1, f"invalid port '{port}': invalid syntax")
        found = published.get(f"{port}/{protocol or 'tcp'}")
        if not found:
            raise Exit(1, f"Error: No public port '{operands[1]}' published for {container}")
        lines = [host_port(item["HostIp"], item["HostPort"]) for item in found]
    else:
        for port, found in published.items():
            lines += [
                f"{port} -> {host_port(item['HostIp'], item['HostPort'])}" for item in found or []
            ]
    for line in sorted(lines, key=natural_order):
        cli.out.line(line)
    return 0
