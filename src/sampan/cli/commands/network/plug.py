"""Give a running container an interface to a bridge, a card or another container."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [ADDRESS...]"
OPERANDS = (1, None)


class Options:
    bridge: str = flag("", "Bridge of the host, made if it does not exist", default="")
    gateway: list[str] = flag("", "Where a default route leads", kind="slice")
    interface: str = flag(
        "", "Name in the container (default the first free of eth0, eth1 ...)", default=""
    )
    mac_address: str = flag("", "MAC address (e.g., 92:d0:c6:0a:29:33)", default="")
    macvlan: str = flag("", "Interface of the host on whose wire it is to be", default="")
    mode: str = flag("", "Mode of macvlan (bridge, private, vepa, passthru)", default="")
    peer: str = flag("", "Container at the other end", default="")
    peer_address: list[str] = flag("", "Address at the other end", kind="slice")
    peer_interface: str = flag("", "Name at the other end", default="")
    port: str = flag("", "Interface of the host that becomes a port of the bridge", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    container, *addresses = operands
    peer = {
        "Container": options.peer,
        "Addresses": options.peer_address,
        "Interface": options.peer_interface,
    }
    wanted = {
        "Bridge": options.bridge,
        "Port": options.port,
        "Parent": options.macvlan,
        "Mode": options.mode,
        "Peer": peer if options.peer else None,
        "Interface": options.interface,
        "Addresses": addresses,
        "Gateways": options.gateway,
        "MacAddress": options.mac_address,
    }
    made = cli.client.networks.plug(container, {key: it for key, it in wanted.items() if it})
    cli.out.line(made["Interface"])
    return 0
