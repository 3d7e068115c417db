"""Requests for networks: what a client may ask for, and the row it becomes. Pure functions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, ip_network
from typing import Final, cast, get_args

from sampan.engine.networks.configs import check_configuration
from sampan.engine.networks.database import NetworkRow
from sampan.engine.networks.model import BRIDGE, HOST, PREDEFINED, NetworkOptions
from sampan.engine.networks.parented import (
    PARENTED,
    check_options,
    flag_of,
    mode_of,
    needs_gateway,
    parent_of,
)
from sampan.engine.networks.ranges import family_of as _family
from sampan.engine.networks.ranges import range_problems
from sampan.errors import Forbidden, InvalidArgument, NotFound, Unsupported
from sampan.network.checks import INTERFACE
from sampan.network.plumber import GatewayMode
from sampan.spec.docker.networks import (
    IPAM,
    ConfigReference,
    IPAMConfig,
    Network,
    NetworkCreateRequest,
)
from sampan.spec.image import timestamp
from sampan.spec.names import new_id

_LONGEST_NAME: Final = 253  # what a domain name can be: containers are found as NAME.NETWORK
_NO_MANAGER: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)
_OPTION: Final = "com.docker.network.bridge."
_PREFIX: Final = "com.docker.network.container_iface_prefix"
_MTU: Final = "com.docker.network.driver.mtu"
_INVALID: Final = "invalid network config:\n"


# --- rows ------------------------------------------------------------------------------------


def predefined(name: str, driver: str) -> Network:
    """Return one of the networks that are always there, with a new id."""
    kind = HOST if name == HOST else driver
    return Network(
        name=name, id=new_id(), created=timestamp(time.time_ns()), driver=kind, ipam=IPAM()
    )


def default_bridge(options: NetworkOptions, ranges: Sequence[IPAMConfig]) -> NetworkRow:
    """Return the row of the network `bridge` with a range for each family."""
    network = predefined(BRIDGE, BRIDGE)
    network.ipam.config = list(ranges)
    network.enable_ipv6 = len(ranges) > 1
    network.options = {
        _OPTION + "default_bridge": "true",
        _OPTION + "enable_icc": str(options.icc).lower(),
        _OPTION + "enable_ip_masquerade": str(options.ip_masq).lower(),
        _OPTION + "host_binding_ipv4": options.default_ip,
        _OPTION + "name": options.bridge,
        _MTU: str(options.mtu or 1500),
    }
    return NetworkRow(
        network=network,
        interface=options.bridge,
        mtu=options.mtu,
        masquerade=options.ip_masq,
        inter_container=options.icc,
    )


def row_of(request: NetworkCreateRequest, configs: Sequence[IPAMConfig]) -> NetworkRow:
    """Return the row that a checked request becomes, with one range for each family."""
    network = _network(request, configs)
    options, driver = network.options or {}, network.driver
    is_bridge = driver == BRIDGE
    if is_bridge:
        interface = options.get(_OPTION + "name") or f"br-{network.id[:12]}"
    else:
        interface = parent_of(network.id, options)
    return NetworkRow(
        network=network,
        interface=interface,
        driver_mode="" if is_bridge else mode_of(driver, options),
        driver_flag=flag_of(driver, options),
        mtu=int(options.get(_MTU) or 0),
        masquerade=_boolean(options, _OPTION + "enable_ip_masquerade"),
        inter_container=_boolean(options, _OPTION + "enable_icc"),
        is_chosen=any(one.subnet for one in (request.ipam or IPAM()).config or ()),
        prefix=options.get(_PREFIX) or "eth",
        host_binding=options.get(_OPTION + "host_binding_ipv4", ""),
        mode=_gateway_mode(options, "gateway_mode_ipv4"),
        mode6=_gateway_mode(options, "gateway_mode_ipv6"),
    )


def _network(request: NetworkCreateRequest, configs: Sequence[IPAMConfig]) -> Network:
    """Return the network as inspect shows it."""
    options = dict(request.options or {})
    given, driver = request.ipam or IPAM(), request.driver or BRIDGE
    gets_gateway = driver == BRIDGE or needs_gateway(driver, options, internal=request.internal)
    return Network(
        name=request.name,
        id=new_id(),
        created=timestamp(time.time_ns()),
        driver=driver,
        enable_ipv6=bool(request.enable_ipv6),
        internal=request.internal,
        attachable=request.attachable,
        config_from=request.config_from or ConfigReference(),
        options=options,
        labels=dict(request.labels or {}),
        ipam=IPAM(
            driver=given.driver or "default",
            options=given.options,
            config=[_complete(config) for config in configs] if gets_gateway else list(configs),
        ),
    )


def _complete(config: IPAMConfig) -> IPAMConfig:
    """Return a range with its gateway."""
    subnet = ip_network(config.subnet)
    first = (ip_network(config.ip_range) if config.ip_range else subnet).network_address
    # The first of a range is an address like others, unless the subnet begins there.
    gateway = first + 1 if first == subnet.network_address else first
    return IPAMConfig(
        subnet=config.subnet,
        ip_range=config.ip_range,
        gateway=config.gateway or str(gateway),
        aux_address=config.aux_address,
    )


# --- checks ----------------------------------------------------------------------------------


def _boolean(options: Mapping[str, str], name: str) -> bool:
    value = options.get(name, "true").lower()
    if value not in ("true", "false", "1", "0", "t", "f"):
        raise InvalidArgument(f"invalid value for option {name}: {options[name]!r}")
    return value[0] in "t1"


def _gateway_mode(options: Mapping[str, str], name: str) -> GatewayMode:
    value = options.get(_OPTION + name, "nat")
    if value not in get_args(GatewayMode):
        raise InvalidArgument(
            f"failed to parse {_OPTION}{name} value: {value} (unknown gateway mode {value})"
        )
    return cast(GatewayMode, value)


def check_request(request: NetworkCreateRequest, *, is_complete: bool = False) -> None:
    """Raise InvalidArgument, Forbidden, NotFound or Unsupported in Docker's words.

    `is_complete` is a request with what it takes from a configuration.
    """
    if not request.name.strip():
        raise InvalidArgument("invalid network name: name is empty")
    if request.name in (*PREDEFINED, "default"):
        raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
    if not request.name.isprintable() or len(request.name) > _LONGEST_NAME:
        raise InvalidArgument(
            f"invalid network name: {request.name!r}: up to {_LONGEST_NAME} printable characters "
            "are allowed"
        )
    if not is_complete:
        check_configuration(request)
    if not request.config_only:
        _check_driver(request.driver or BRIDGE)
        _check_scope(request)
        if request.enable_ipv4 is False:
            raise Unsupported("networks without IPv4 are not supported")
        _check_options(request.options or {}, is_internal=request.internal)
        if request.driver in PARENTED:
            check_options(request.driver, request.options or {})
    _check_ipam(request.ipam, request.driver or BRIDGE)


def _check_options(options: Mapping[str, str], *, is_internal: bool) -> None:
    modes = [_gateway_mode(options, f"gateway_mode_ipv{family}") for family in (4, 6)]
    if "isolated" in modes and not is_internal:
        raise InvalidArgument("gateway mode 'isolated' can only be used for an internal network")
    if (mtu := options.get(_MTU)) and not (mtu.isdecimal() and 68 <= int(mtu) <= 65535):
        raise InvalidArgument(f"invalid MTU: {mtu}")
    if (name := options.get(_OPTION + "name")) and not INTERFACE.fullmatch(name):
        raise InvalidArgument(f"invalid bridge name: {name!r}")
    if (prefix := options.get(_PREFIX)) and not INTERFACE.fullmatch(prefix + "999"):
        raise InvalidArgument(f"invalid interface prefix: {prefix!r}")
    if binding := options.get(_OPTION + "host_binding_ipv4"):
        try:
            IPv4Address(binding)
        except ValueError as error:
            raise InvalidArgument(
                f"failed to parse {_OPTION}host_binding_ipv4 value: {binding}"
            ) from error
    for option in ("enable_ip_masquerade", "enable_icc"):
        _boolean(options, _OPTION + option)


def _check_driver(driver: str) -> None:
    if driver in (HOST, "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver == "overlay":
        raise Forbidden(_NO_MANAGER)
    if driver not in (BRIDGE, *PARENTED):
        raise NotFound(_no_plugin(driver))


def _check_scope(request: NetworkCreateRequest) -> None:
    if request.ingress:
        raise Forbidden("Ingress network can only be global scope network")
    if request.scope == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    if request.scope not in ("", "local"):
        raise InvalidArgument(f"invalid scope of a network: {request.scope}")


def _no_plugin(name: str) -> str:
    return f"could not find plugin {name} in v1 plugin registry: plugin not found"


def _check_ipam(given: IPAM | None, driver: str) -> None:
    if given is None:
        return
    if given.driver not in ("", "default"):
        raise NotFound(_no_plugin(given.driver))
    configs = given.config or []
    problems = [problem for config in configs for problem in range_problems(config)]
    if problems:
        lines = problems if len(problems) == 1 else [f"* {problem}" for problem in problems]
        raise InvalidArgument(_INVALID + "\n".join(lines))
    families = [_family(config.subnet) for config in configs]
    if families.count(4) > 1 or families.count(6) > 1:
        if driver != BRIDGE:
            raise Unsupported(f"{driver} networks with several subnets are not supported")
        raise Forbidden("bridge driver doesn't support multiple subnets")
