"""A plumber of its own process on a host of its own, with the bridges and containers of a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from sampan import rpc
from sampan.network.plumber import BridgeSpec, EndpointSpec, Plumber, PortMapping
from sampan.rpc import Fd
from tests.netns import Hosts, hosts
from tests.session import PATIENCE


@dataclass
class Plumbed:
    """Bridges `brN` with the subnet 172.N.0.0/16, where `N` is 30 if nobody says otherwise."""

    here: Hosts
    plumber: Plumber
    state: Path
    stack: ExitStack

    everywhere: ClassVar[str] = "0.0.0.0"

    @classmethod
    @contextmanager
    def on_a_host(cls, folder: Path) -> Iterator[Self]:
        """Have a host with the first bridge; the plumber keeps its state in `folder`."""
        with hosts() as here, ExitStack() as stack:
            sock, process = rpc.start("sampan.helpers.network", [str(folder / "state")])
            stack.callback(process.wait, PATIENCE)
            stack.enter_context(sock)
            plumber = rpc.connect(Plumber, sock, PATIENCE)  # type: ignore[type-abstract]
            made = cls(here, plumber, folder / "state", stack)
            made.bridge()
            yield made

    def subnet(self, network: int) -> Mapping[str, str]:
        """Return the addresses of a bridge."""
        return {"subnet": f"172.{network}.0.0/16", "gateway": f"172.{network}.0.1"}

    def addresses(self, network: int, number: int) -> Mapping[str, str]:
        """Return the addresses of container `number`."""
        return {"address": f"172.{network}.0.{number}/16", "gateway": f"172.{network}.0.1"}

    def bridge(self, network: int = 30, **changes: bool) -> None:
        """Have a bridge."""
        fields = {"network_id": f"net{network}", "name": f"br{network}", **self.subnet(network)}
        self.plumber.ensure_network(BridgeSpec(**{**fields, **changes}))  # type: ignore[arg-type]

    def container(self, number: int, network: int = 30, **changes: str) -> Fd:
        """Return the namespace of container `number`, whose addresses end with it."""
        fields = {
            "endpoint_id": f"e{network}-{number}",
            "network_id": f"net{network}",
            "mac_address": f"02:42:ac:{network:02x}:00:{number:02x}",
            **self.addresses(network, number),
        }
        made = self.plumber.attach(EndpointSpec(**{**fields, **changes}))  # type: ignore[arg-type]
        return self.stack.enter_context(made)

    def publish(
        self,
        number: int,
        host_port: int,
        container_port: int,
        protocol: Literal["tcp", "udp"] = "tcp",
        address: str = "",
    ) -> None:
        """Publish a port of container `number` of the first bridge."""
        mapping = PortMapping(
            protocol=protocol,
            host_address=address or self.everywhere,
            host_port=host_port,
            container_port=container_port,
        )
        self.plumber.publish(f"e30-{number}", [mapping])


class Plumbed6(Plumbed):
    """The same with the subnets fd00:N::/64 as well."""

    everywhere = "::"

    def subnet(self, network: int) -> Mapping[str, str]:
        more = {"subnet6": f"fd00:{network}::/64", "gateway6": f"fd00:{network}::1"}
        return {**super().subnet(network), **more}

    def addresses(self, network: int, number: int) -> Mapping[str, str]:
        more = {"address6": f"fd00:{network}::{number}/64", "gateway6": f"fd00:{network}::1"}
        return {**super().addresses(network, number), **more}
