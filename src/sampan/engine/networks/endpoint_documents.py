"""What follows from a container's endpoints: what inspect shows, and its files under /etc."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from sampan.engine.networks import etc_files
from sampan.engine.networks.held import Plugged, has_names
from sampan.engine.networks.model import HOST, NetworkOptions, Wish
from sampan.network import ports
from sampan.spec.docker.networks import NetworkSettings


def shown(wish: Wish, plugged: Sequence[Plugged]) -> NetworkSettings:
    """Return what inspect shows of a running container."""
    shown = NetworkSettings(
        sandbox_id=sha256(f"sandbox {wish.container_id}".encode()).hexdigest(),
        networks={one.row.network.name: one.settings for one in plugged},
    )
    if any(one.spec and one.row.is_bridge for one in plugged):
        published = [mapping for one in plugged for mapping in one.ports]
        shown.ports = ports.port_map(wish.port_bindings, wish.exposed_ports, published)
    if default := shown.networks.get("bridge"):
        shown.endpoint_id = default.endpoint_id
        shown.gateway = default.gateway
        shown.ip_address = default.ip_address
        shown.ip_prefix_len = default.ip_prefix_len
        shown.mac_address = default.mac_address
        shown.ipv6_gateway = default.ipv6_gateway
        shown.global_ipv6_address = default.global_ipv6_address
        shown.global_ipv6_prefix_len = default.global_ipv6_prefix_len
    return shown


def files(
    options: NetworkOptions, gateway: str, wish: Wish, plugged: Sequence[Plugged]
) -> dict[str, bytes]:
    """Return hosts, hostname and resolv.conf; `gateway` is what `host-gateway` stands for."""
    is_host = bool(plugged) and plugged[0].row.network.name == HOST
    extra = [etc_files.extra_host(text, gateway) for text in wish.extra_hosts]
    hosts = etc_files.hosts(
        extra=extra,
        own=[
            address
            for one in plugged
            for address in (one.settings.ip_address, one.settings.global_ipv6_address)
            if address
        ],
        hostname=wish.hostname,
        domainname=wish.domainname,
    )
    if is_host and not extra and (hosts_of_host := Path("/etc/hosts")).exists():
        hosts = hosts_of_host.read_bytes()
    return {
        "hosts": hosts,
        "hostname": f"{wish.hostname}\n".encode(),
        "resolv.conf": etc_files.resolv_conf(
            etc_files.read_host_resolv_conf(Path(options.resolv_conf)),
            dns=wish.dns or options.dns,
            search=wish.dns_search or options.dns_search,
            options=wish.dns_options or options.dns_options,
            is_host_network=is_host,
            is_internal=has_names(plugged),
            has_ipv6=any(one.settings.global_ipv6_address for one in plugged),
        ),
    }
