"""Networks that are mere configurations (`--config-only`), and those made from one.

Source of rules and sentences: moby libnetwork/network.go, validateConfiguration and
applyConfigurationTo.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec

from sampan.engine.networks.database import NetworkRow
from sampan.errors import Forbidden, NotFound
from sampan.spec.docker.networks import IPAM, ConfigReference, Network, NetworkCreateRequest
from sampan.spec.image import timestamp
from sampan.spec.names import new_id


def check_configuration(request: NetworkCreateRequest) -> None:
    """Refuse what a configuration cannot have, and what a network cannot have beside one."""
    source = request.config_from.network if request.config_from else ""
    if request.config_only:
        if request.ingress or request.internal or request.attachable or request.scope:
            raise Forbidden(
                "configuration network can only contain network specific fields. Network operator "
                "fields like [ ingress | internal | attachable | scope ] are not supported."
            )
        if source:
            raise Forbidden(
                "a configuration network cannot depend on another configuration network"
            )
    if not source:
        return
    ipam = request.ipam or IPAM()
    is_configured = (
        ipam.driver not in ("", "default"),
        request.enable_ipv4 is False,
        request.enable_ipv6,
        request.labels,
        ipam.options,
        ipam.config,
    )
    if any(is_configured):
        raise Forbidden(
            "user-specified configurations are not supported if the network depends on a "
            "configuration network"
        )
    if request.options:
        raise Forbidden(
            "network driver options are not supported if the network depends on a configuration "
            "network"
        )


def configuration(request: NetworkCreateRequest) -> NetworkRow:
    """Return the row of a configuration: no driver makes anything of it."""
    network = Network(
        name=request.name,
        id=new_id(),
        created=timestamp(time.time_ns()),
        driver="null",
        enable_ipv4=request.enable_ipv4 is not False,
        enable_ipv6=bool(request.enable_ipv6),
        config_only=True,
        options=dict(request.options or {}),
        labels=dict(request.labels or {}),
        ipam=request.ipam or IPAM(),
    )
    return NetworkRow(network=network)


def configured(request: NetworkCreateRequest, rows: Iterable[NetworkRow]) -> NetworkCreateRequest:
    """Return a request with what it takes from a configuration among `rows`, if from any."""
    if not request.config_from or not request.config_from.network:
        return request
    name = request.config_from.network
    for row in rows:
        found = row.network
        if found.name == name and found.config_only:
            return msgspec.structs.replace(
                request,
                enable_ipv4=found.enable_ipv4,
                enable_ipv6=found.enable_ipv6,
                ipam=found.ipam,
                options=found.options,
                labels=found.labels,
            )
    raise NotFound(f'configuration network "{name}" does not exist')


def check_unused(configuration: Network, rows: Iterable[NetworkRow]) -> None:
    """Refuse to remove a configuration from which networks were made."""
    reference = ConfigReference(network=configuration.name)
    if configuration.config_only and any(row.network.config_from == reference for row in rows):
        raise Forbidden(f'configuration network "{configuration.name}" is in use')


def check_endpoint(network: Network) -> None:
    """Refuse to connect a container with a mere configuration."""
    if network.config_only:
        raise Forbidden("cannot create endpoint on configuration-only network")
