"""Create a network."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.arguments.network_ranges import ranges_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "NETWORK"
OPERANDS = (1, 1)


class Options:
    attachable: bool = flag("", "Let containers that are started by hand join it")
    aux_address: dict[str, str] = flag(
        "", "Addresses that are taken by something else (name=address)", kind="map"
    )
    config_from: str = flag("", "Network whose configuration is copied", default="")
    config_only: bool = flag("", "Make a mere configuration")
    driver: str = flag("d", "Driver of the network", default="bridge")
    gateway: list[str] = flag("", "Address of the gateway in a subnet", kind="slice")
    ingress: bool = flag("", "Make the routing mesh of a swarm")
    internal: bool = flag("", "Let nothing go out or come in")
    ip_range: list[str] = flag("", "Part of a subnet that containers get", kind="slice")
    ipam_driver: str = flag("", "Who gives out addresses", default="default")
    ipam_opt: dict[str, str] = flag("", "Option of the address driver", kind="map")
    ipv4: bool = flag("", "Give IPv4 addresses", default=True)
    ipv6: bool = flag("", "Give IPv6 addresses")
    label: list[str] = flag("", "Label of the network", kind="list")
    opt: dict[str, str] = flag("o", "Option of the driver", kind="map")
    scope: str = flag("", "How far the network reaches", default="")
    subnet: list[str] = flag("", "Range of addresses in CIDR notation", kind="slice")
    changed: set[str]


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    document = {
        "Name": operands[0],
        "Driver": options.driver,
        "Options": options.opt,
        "IPAM": {
            "Driver": options.ipam_driver,
            "Options": options.ipam_opt,
            "Config": ranges_of(
                options.subnet, options.ip_range, options.gateway, options.aux_address
            ),
        },
        "Internal": options.internal,
        "Ingress": options.ingress,
        "Attachable": options.attachable,
        "Scope": options.scope,
        "ConfigOnly": options.config_only,
        "Labels": dict(label.partition("=")[::2] for label in options.label),
    }
    if options.config_from:
        document["ConfigFrom"] = {"Network": options.config_from}
    for family in ("ipv4", "ipv6"):
        if family in options.changed:
            document[f"EnableIP{family[2:]}"] = getattr(options, family)
    cli.out.line(cli.client.networks.create(document)["Id"])
    return 0
