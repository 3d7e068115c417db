"""Connect a container with a network."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.containers import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "NETWORK CONTAINER"
OPERANDS = (2, 2)


class Options:
    alias: list[str] = flag("", "Further name on the network", kind="slice")
    driver_opt: list[str] = flag("", "Option of the endpoint (key=value)", kind="slice")
    gw_priority: int = flag("", "Highest provides the default gateway", kind="int")
    ip: str = flag("", "IPv4 address (e.g., 172.30.100.104)", kind="ip")
    ip6: str = flag("", "IPv6 address (e.g., 2001:db8::33)", kind="ip")
    link: list[str] = flag("", "Name for another container", kind="list", check=checks.link)
    link_local_ip: list[str] = flag("", "Link-local address", kind="slice")
    mac_address: str = flag("", "MAC address (e.g., 92:d0:c6:0a:29:33)", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    network, container = operands
    addresses = {
        "IPv4Address": options.ip,
        "IPv6Address": options.ip6,
        "LinkLocalIPs": options.link_local_ip,
    }
    endpoint = {
        "IPAMConfig": {key: value for key, value in addresses.items() if value},
        "Links": options.link,
        "Aliases": options.alias,
        "MacAddress": options.mac_address,
        "DriverOpts": _driver_options(options.driver_opt),
        "GwPriority": options.gw_priority,
    }
    wanted = {key: value for key, value in endpoint.items() if value}
    cli.client.networks.connect(network, container, wanted)
    return 0


def _driver_options(texts: list[str]) -> dict[str, str]:
    from sampan.errors import InvalidArgument

    found = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise InvalidArgument("invalid key/value pair format in driver options")
        found[key] = value
    return found
