"""What a container asks of its network, read off its record."""

from __future__ import annotations

from sampan.engine.containers.container import Record
from sampan.engine.networks.networks import Wish


def wish(record: Record) -> Wish:
    """Return the parts of the record that concern networks."""
    config, host = record.config, record.host_config
    return Wish(
        container_id=record.id,
        name=record.name,
        mode=host.network_mode or "default",
        disabled=bool(config.network_disabled),
        hostname=config.hostname,
        domainname=config.domainname,
        mac_address=config.mac_address or "",
        endpoints=record.endpoints,
        exposed_ports=list(config.exposed_ports or {}),
        port_bindings=host.port_bindings or {},
        publish_all=host.publish_all_ports,
        dns=host.dns or (),
        dns_search=host.dns_search or (),
        dns_options=host.dns_options or (),
        extra_hosts=host.extra_hosts or (),
    )
