"""What `create` of older API versions means today: the body is adapted, in one table.

Source: moby daemon/server/router/container/container_routes.go, postContainersCreate.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import UNSET

from sampan.api.versions import Version
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import Mount
from sampan.spec.docker.containers import CreateRequest
from sampan.spec.docker.networks import EndpointSettings, NetworkingConfig, PortBinding

Change = Callable[[CreateRequest], None]
MAC_DEPRECATED = (
    "The container-wide MacAddress field is now deprecated. "
    "It should be specified in EndpointsConfig instead."
)
NOT_USER_DEFINED = ("", "default", "host", "none")


def _mounts(request: CreateRequest) -> list[Mount]:
    return request.host_config.mounts or []


def _endpoints(request: CreateRequest) -> dict[str, EndpointSettings | None]:
    config = request.networking_config
    return (config.endpoints_config or {}) if config is not None else {}


def _recursive_binds(request: CreateRequest) -> None:
    for mount in _mounts(request):
        if mount.bind_options is not None:
            mount.bind_options.non_recursive = False


def _shareable_ipc(request: CreateRequest) -> None:
    request.host_config.ipc_mode = request.host_config.ipc_mode or "shareable"


def _host_cgroup_namespace(request: CreateRequest) -> None:
    request.host_config.cgroupns_mode = request.host_config.cgroupns_mode or "host"


def _unchecked_mounts(request: CreateRequest) -> None:
    for mount in _mounts(request):
        if mount.type != "volume":
            mount.volume_options = None
        if mount.type != "tmpfs":
            mount.tmpfs_options = None
        if mount.bind_options is not None:
            mount.bind_options.create_mountpoint = False


def _no_console_size(request: CreateRequest) -> None:
    request.host_config.console_size = [0, 0]


def _no_annotations(request: CreateRequest) -> None:
    request.host_config.annotations = msgspec.UNSET


def _no_start_interval(request: CreateRequest) -> None:
    if request.healthcheck:
        request.healthcheck.start_interval = 0


def _read_only_not_recursive(request: CreateRequest) -> None:
    for mount in _mounts(request):
        if mount.type == "bind" and mount.bind_options is not None:
            if mount.bind_options.read_only_force_recursive:
                raise InvalidArgument("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
            mount.bind_options.read_only_non_recursive = True


def _one_network(request: CreateRequest) -> None:
    names = list(_endpoints(request))
    if len(names) > 1:
        raise InvalidArgument(
            f"Container cannot be created with multiple network endpoints: {', '.join(names)}"
        )


def _no_subpath(request: CreateRequest) -> None:
    if any(mount.volume_options and mount.volume_options.subpath for mount in _mounts(request)):
        raise InvalidArgument("VolumeOptions.Subpath needs API v1.45 or newer")


def _no_image_mounts(request: CreateRequest) -> None:
    for endpoint in _endpoints(request).values():
        if endpoint is not None:
            endpoint.gw_priority = 0
    if any(mount.type == "image" for mount in _mounts(request)):
        raise InvalidArgument('Mount type "Image" needs API v1.48 or newer')


def _mac_address_in_config(request: CreateRequest) -> None:
    """Before 1.44 only the container-wide address counted."""
    if request.mac_address:
        mode = request.host_config.network_mode
        if mode in ("host", "none") or mode.startswith("container:"):
            raise InvalidArgument("conflicting options: mac-address and the network mode")
        _main_endpoint(request).mac_address = request.mac_address
        return
    for endpoint in _endpoints(request).values():
        if endpoint is not None:
            endpoint.mac_address = ""


def _main_endpoint(request: CreateRequest) -> EndpointSettings:
    """Return the settings of the network that NetworkMode names, made if there are none."""
    config = request.networking_config
    if config is None:
        config = request.networking_config = NetworkingConfig()
    if config.endpoints_config is None:
        config.endpoints_config = {}
    mode = request.host_config.network_mode
    name = "bridge" if mode in NOT_USER_DEFINED else mode
    for key in (name, *([] if name in config.endpoints_config else config.endpoints_config)):
        endpoint = config.endpoints_config.get(key)
        if endpoint is not None:
            return endpoint
    endpoint = config.endpoints_config[name] = EndpointSettings()
    return endpoint


# (the version that changed the meaning, what makes an older request mean the same today)
UP: list[tuple[Version, Change]] = [
    ((1, 40), _recursive_binds),
    ((1, 40), _shareable_ipc),
    ((1, 41), _host_cgroup_namespace),
    ((1, 42), _unchecked_mounts),
    ((1, 42), _no_console_size),
    ((1, 43), _no_annotations),
    ((1, 44), _no_start_interval),
    ((1, 44), _read_only_not_recursive),
    ((1, 44), _one_network),
    ((1, 44), _mac_address_in_config),
    ((1, 45), _no_subpath),
    ((1, 48), _no_image_mounts),
]


def adapt(request: CreateRequest, version: Version) -> list[str]:
    """Make a request of an older version mean the same today; return warnings."""
    if version >= (1, 42):
        request.host_config.kernel_memory = UNSET  # Docker's daemon does not read it any more
    for since, change in UP:
        if version < since:
            change(request)
    pids = request.host_config.pids_limit
    if pids is not None and pids <= 0:
        request.host_config.pids_limit = None
    for port, bindings in (request.host_config.port_bindings or {}).items():
        if not bindings:
            _bind_somewhere(request, port)
    return _move_mac_address(request) if version >= (1, 44) else []


def _bind_somewhere(request: CreateRequest, port: str) -> None:
    """An empty list of bindings means any port of the host."""
    if request.host_config.port_bindings is not None:
        request.host_config.port_bindings[port] = [PortBinding()]


def _move_mac_address(request: CreateRequest) -> list[str]:
    """Put a container-wide address where it belongs since 1.44, and warn."""
    address = request.mac_address
    if not address:
        return []
    mode = request.host_config.network_mode
    if mode not in ("host", "none") and not mode.startswith("container:"):
        endpoint = _main_endpoint(request)
        if endpoint.mac_address and endpoint.mac_address != address:
            raise InvalidArgument(
                "the container-wide MAC address must match the endpoint-specific MAC address "
                "for the main network, or be left empty"
            )
        endpoint.mac_address = address
    return [MAC_DEPRECATED]


def check_mounts(request: CreateRequest, version: Version) -> None:
    """Raise InvalidArgument for options that do not belong to a mount's type."""
    if version < (1, 42):
        return
    for mount in _mounts(request):
        for kind, options in (
            ("volume", mount.volume_options),
            ("bind", mount.bind_options),
            ("tmpfs", mount.tmpfs_options),
        ):
            if options is not None and mount.type != kind:
                raise InvalidArgument(
                    f'{kind.capitalize()}Options must not be specified on mount type "{mount.type}"'
                )
