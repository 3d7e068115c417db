"""The pieces fitted together: helpers, engine, what the engine says of itself."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sampan.api.handler import Backend
from sampan.build.earlier import were_builds
from sampan.daemon import certificates
from sampan.daemon.cgroups import placement
from sampan.daemon.configuration.build_options import gc_policies
from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.configuration.network_options import address_pools, without_effect
from sampan.daemon.configuration.registry_options import masked, registry_options, shown
from sampan.daemon.reconnecting import Reconnecting
from sampan.daemon.remap import remapped
from sampan.distribution.config import RegistryConfig
from sampan.distribution.registries import Registries
from sampan.engine.blocking import blocking
from sampan.engine.containers.queries import ListQuery
from sampan.engine.engine import Engine
from sampan.engine.images.distribution.transfers import TransferLimits
from sampan.engine.networks.networks import NetworkOptions
from sampan.engine.oci.cdi import DeviceNames
from sampan.engine.oci.id_ranges import pool_of
from sampan.engine.oci.security import Confinement
from sampan.engine.oci.user_namespaces import UserOptions
from sampan.engine.options import EngineOptions
from sampan.engine.snapshot_driver import parse_options
from sampan.engine.system import ENGINE_VERSION, Inventory, StateCounts, System, SystemOptions
from sampan.http.proxies import Proxies
from sampan.network.plumber import Plumber
from sampan.runtime.spawner import Spawner
from sampan.spec.docker.config import Ulimit
from sampan.spec.docker.system import IndexInfo
from sampan.spec.docker.system import RegistryConfig as ShownRegistries
from sampan.spec.storage import StorageItem
from sampan.storage.mounter import DriverInfo
from sampan.storage.service import Storage

log = logging.getLogger(__name__)
ID_FILE = "engine-id"


class Daemon:
    """The engine behind the API, and the helpers behind the engine."""

    def __init__(
        self,
        config: Config,
        degraded: Sequence[str] = (),
        confinement: Confinement | None = None,
    ) -> None:
        self._storage = Reconnecting(Storage, "storage")  # type: ignore[type-abstract]
        self._network = Reconnecting(Plumber, "network")  # type: ignore[type-abstract]
        self._spawner = Reconnecting(Spawner, "spawner")  # type: ignore[type-abstract]
        self._helpers: dict[str, Reconnecting[Any]] = {
            "storage": self._storage,
            "network": self._network,
            "spawner": self._spawner,
        }
        self._config, self._degraded = config, degraded
        self._confinement = confinement or Confinement()
        self._entered = False
        self._registries = Registries(registry_config(config))
        parse_options(config["storage-opt"])  # what can never be is told before we wait for helpers

    def _fit_together(self, driver: DriverInfo) -> None:
        """Make the engine: which images it has depends on the storage driver."""
        config = self._config
        self.engine = Engine(
            mounter=self._storage.stand_in(),
            keeper=self._storage.stand_in(),
            lender=self._storage.stand_in(),
            plumber=self._network.stand_in(),
            spawner=self._spawner.stand_in(),
            data_root=Path(config["data-root"]),
            driver=driver,
            options=engine_options(config, self._confinement),
            registries=self._registries,
        )
        self.system = System(
            system_options(config, self._degraded, self._confinement), _inventory(self.engine)
        )
        policies = gc_policies(config["builder-gc"])
        self.backend = Backend(self.engine, self.system, _entitlements(config), policies)

    def use_helper(self, name: str, sock: socket.socket) -> None:
        """Use the socket that the supervisor handed over."""
        helper = self._helpers.get(name)
        if helper is None:
            log.error("there is no helper %s", name)
            sock.close()
            return
        helper.replace(sock)
        log.info("connected with the %s helper", name)

    async def start(self) -> None:
        """Compare what is on disk with what runs, and repair."""
        self._fit_together(await blocking(self._storage.stand_in().driver))
        if await blocking(were_builds, self.engine.build_database):
            _ = self.backend.builder  # holds the layers of its cache before the engine tidies up
        await self.engine.__aenter__()
        self._entered = True

    async def stop(self) -> None:
        """Leave the engine; containers stay, unless live-restore is off."""
        if self._entered:
            if not self._config["live-restore"]:
                await self._stop_containers()
            await self.engine.__aexit__(None, None, None)
        for helper in self._helpers.values():
            helper.close()

    async def _stop_containers(self) -> None:
        timeout = self._config["shutdown-timeout"]
        for container in await self.engine.containers.list(ListQuery(filters={})):
            await self.engine.containers.stop(container.id, timeout=timeout)

    def reload(self, config: Config) -> None:
        """Apply options that changed, and tell listeners of events."""
        self._registries.configure(registry_config(config))
        if not self._entered:
            return  # the others are read in a moment
        self.system.options.labels = tuple(config["label"])
        self.system.options.debug = config["debug"]
        self.system.options.registries = shown_registries(config)
        self.engine.images.limit(transfer_limits(config))
        attributes = {
            "debug": str(config["debug"]).lower(),
            "insecure-registries": shown(config["insecure-registry"]),
            "labels": shown(config["label"]),
            "max-concurrent-downloads": str(config["max-concurrent-downloads"]),
            "max-concurrent-uploads": str(config["max-concurrent-uploads"]),
            "max-download-attempts": str(config["max-download-attempts"]),
            "registry-mirrors": shown(config["registry-mirror"]),
        }
        self.engine.events.publish("daemon", "reload", self.system.options.id, attributes)


def _inventory(engine: Engine) -> Inventory:
    async def all_containers() -> list[Any]:
        return list(await engine.containers.list(ListQuery(all=True, size=True, filters={})))

    async def all_images() -> list[Any]:
        return list(await engine.images.summaries({}, shared_size=True))

    async def count_images() -> int:
        return len(await engine.images.summaries({}, all=True))

    async def states() -> StateCounts:
        found = [one.state for one in await engine.containers.list(ListQuery(all=True, filters={}))]
        running = sum(state in ("running", "restarting") for state in found)
        paused = found.count("paused")
        return StateCounts(running, paused, len(found) - running - paused)

    async def disk() -> list[StorageItem]:
        return [*await engine.images.storage(), await engine.volumes.storage()]

    return Inventory(
        states=states,
        count_images=count_images,
        containers=all_containers,
        images=all_images,
        volumes=engine.volumes.usage,
        volume_drivers=lambda: blocking(engine.volumes.driver_names),
        layers_size=engine.images.layers_size,
        disk=disk,
        storage=lambda: engine.storage.info,
        listeners=lambda: engine.events.listeners,
    )


def _entitlements(config: Config) -> list[str]:
    """Return what clients of builds may grant."""
    names = ("device", "network-host", "security-insecure")
    return [name.replace("-", ".") for name in names if config[f"builder-{name}"]]


def engine_options(config: Config, confinement: Confinement) -> EngineOptions:
    """Return what the engine has to know of the configuration."""
    return EngineOptions(
        log_driver=config["log-driver"],
        log_options=dict(config["log-opt"]),
        default_ulimits=_ulimits(config["default-ulimit"]),
        default_shm_size=config["default-shm-size"],
        confinement=confinement,
        placement=placement(config),
        device_names=DeviceNames(tuple(config["cdi-spec-dir"])),
        init=config["init"],
        live_restore=config["live-restore"],
        storage_options=tuple(config["storage-opt"]),
        transfers=transfer_limits(config),
        users=UserOptions(
            default=remapped(config["userns-remap"]), pool=pool_of((config["user"].split(":")[0],))
        ),
        network=NetworkOptions(
            bridge=config["bridge"] or NetworkOptions().bridge,
            bip=config["bip"],
            fixed_cidr=config["fixed-cidr"],
            default_gateway=config["default-gateway"],
            ip_forward=config["ip-forward"],
            ipv6=config["ipv6"],
            bip6=config["bip6"],
            fixed_cidr6=config["fixed-cidr-v6"],
            default_gateway6=config["default-gateway-v6"],
            mtu=config["mtu"],
            icc=config["icc"],
            ip_masq=config["ip-masq"],
            default_ip=config["ip"],
            dns=tuple(config["dns"]),
            dns_search=tuple(config["dns-search"]),
            dns_options=tuple(config["dns-opt"]),
            default_address_pools=address_pools(config["default-address-pool"]),
            host_gateway_ip=config["host-gateway-ip"],
        ),
    )


def system_options(
    config: Config, degraded: Sequence[str] = (), confinement: Confinement | None = None
) -> SystemOptions:
    """Return what `info` shows of the configuration, and of what this host lacks."""
    return SystemOptions(
        id=engine_id(Path(config["data-root"])),
        root=config["data-root"],
        logging_driver=config["log-driver"],
        labels=tuple(config["label"]),
        debug=config["debug"],
        live_restore=config["live-restore"],
        confinement=confinement or Confinement(),
        cgroup_driver=placement(config).driver,
        device_names=DeviceNames(tuple(config["cdi-spec-dir"])),
        user_namespaces=bool(config["userns-remap"]),
        default_address_pools=address_pools(config["default-address-pool"]),
        firewall=(config["firewall-backend"] or "nftables") if config["iptables"] else "none",
        warnings=(*degraded, *_exposed(config), *without_effect(config)),
        registries=shown_registries(config),
        http_proxy=masked(proxies(config).http),
        https_proxy=masked(proxies(config).https),
        no_proxy=",".join(proxies(config).exceptions),
    )


def proxies(config: Config) -> Proxies:
    """Return the proxies of the options, and those of the environment where there is none."""
    options = {
        "HTTP_PROXY": config["http-proxy"],
        "HTTPS_PROXY": config["https-proxy"],
        "NO_PROXY": config["no-proxy"],
    }
    given = {name: value for name, value in options.items() if value}
    return Proxies.from_environment({**os.environ, **given})


def registry_config(config: Config) -> RegistryConfig:
    """Return how registries are reached."""
    options = registry_options(config)
    return RegistryConfig(
        insecure=options.insecure,
        hub_mirrors=options.hub_mirrors,
        mirrors=options.mirrors,
        certificates=certificates.folders(config["registry-certs"], config["exec-root"]),
        max_attempts=config["max-download-attempts"],
        user_agent=f"docker/{ENGINE_VERSION} (linux)",
        proxies=proxies(config),
    )


def transfer_limits(config: Config) -> TransferLimits:
    """Return how many layers are transferred at once."""
    return TransferLimits(config["max-concurrent-downloads"], config["max-concurrent-uploads"])


def shown_registries(config: Config) -> ShownRegistries:
    """Return what `info` shows of mirrors and trust.

    Source: moby daemon/pkg/registry/config.go, loadInsecureRegistries.
    """
    options = registry_options(config)
    networks = [name for name in options.insecure if "/" in name]
    hub = IndexInfo(name="docker.io", mirrors=list(options.hub_mirrors), official=True)
    indexes = {
        name: IndexInfo(
            name=name,
            mirrors=list(options.mirrors.get(name, ())),
            secure=name not in options.insecure,
        )
        for name in (*options.mirrors, *options.insecure)
        if name not in networks
    }
    return ShownRegistries(
        insecure_registry_cidrs=[*networks, "::1/128", "127.0.0.0/8"],
        index_configs={**indexes, "docker.io": hub},
        mirrors=list(options.hub_mirrors),
    )


def _exposed(config: Config) -> list[str]:
    """Return a warning for each address where the API gives root to whoever reaches it."""
    warnings = []
    for host in config.hosts:
        if host.startswith("tcp://") and not config.verifies_clients:
            what = "client verification" if config.wants_tls else "encryption"
            warnings.append(
                f"WARNING: API is accessible on {host} without {what}. "
                "Access to the remote API is equivalent to root access on the host."
            )
    return warnings


def engine_id(data_root: Path) -> str:
    """Return the identity of this engine, made at its first start."""
    path = data_root / ID_FILE
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        identity = str(uuid.uuid4())
        temporary = path.with_suffix(".new")
        temporary.write_text(identity + "\n", "ascii")
        os.replace(temporary, path)
        return identity


def _ulimits(limits: dict[str, Any]) -> dict[str, Ulimit]:
    """Return the limits of --default-ulimit ("nofile=1024:2048") and of the file."""
    found = {}
    for name, value in limits.items():
        try:
            if isinstance(value, dict):
                soft, hard = int(value["Soft"]), int(value["Hard"])
            else:
                first, _, second = str(value).partition(":")
                soft, hard = int(first), int(second or first)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"invalid ulimit argument: {name}={value}") from error
        found[name] = Ulimit(name=name, soft=soft, hard=hard)
    return found
