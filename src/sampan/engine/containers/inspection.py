"""What can be seen of containers: inspect and list."""

from __future__ import annotations

from pathlib import Path

from msgspec import UNSET, structs

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container, Record
from sampan.engine.containers.lookup import Table
from sampan.engine.containers.queries import ListQuery
from sampan.engine.filters import Filters
from sampan.engine.images.images import Images
from sampan.engine.networks.links import Links
from sampan.engine.networks.networks import Networks
from sampan.engine.networks.wishes import wish
from sampan.engine.oci.security import Confinement, apparmor_profile, parse_security_opt
from sampan.errors import InvalidArgument, NotFound, SampanError
from sampan.logs.files import log_path
from sampan.spec.docker.config import HostConfig
from sampan.spec.docker.containers import (
    ContainerInspect,
    ContainerSummary,
    Port,
    SummaryHostConfig,
    SummaryNetworkSettings,
)
from sampan.spec.docker.images import DriverData
from sampan.spec.docker.networks import NetworkSettings
from sampan.spec.image import timestamp
from sampan.storage.mounter import Mounter

STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
KEYS = (
    "ancestor before exited expose health id is-task isolation label name network publish since"
    " status volume"
).split()


class Inspection:
    """Source: moby daemon/inspect.go, list.go."""

    def __init__(
        self,
        *,
        table: Table,
        images: Images,
        networks: Networks,
        links: Links,
        mounter: Mounter,
        data_root: Path,
        confinement: Confinement,
    ) -> None:
        self._links, self._confinement = links, confinement
        self._table, self._images, self._networks = table, images, networks
        self._mounter, self._data_root = mounter, data_root

    def _apparmor(self, record: Record) -> str:
        """Return the profile that confines a container; "" where the kernel has no AppArmor."""
        if not self._confinement.apparmor:
            return ""
        host = record.host_config
        options = parse_security_opt(host.security_opt or ())
        return apparmor_profile(options, host.privileged, self._confinement)

    async def inspect(self, container: Container, *, size: bool = False) -> ContainerInspect:
        """Return everything about one container; never waits for what it is doing."""
        record = container.record
        folder = self._data_root / "containers" / record.id
        driver = record.host_config.log_config.type
        log = log_path(folder, record.id, driver) if driver == "json-file" else None
        used = await self._sizes(container) if size else (UNSET, UNSET)
        started = bool(record.started_at)
        return ContainerInspect(
            id=record.id,
            created=timestamp(record.created),
            path=record.path,
            args=record.args,
            state=container.state(),
            image=record.image,
            resolv_conf_path=str(folder / "resolv.conf") if started else "",
            hostname_path=str(folder / "hostname") if started else "",
            hosts_path=str(folder / "hosts") if started else "",
            log_path=str(log) if log and started else "",
            name=f"/{record.name}",
            restart_count=record.restart_count,
            driver=record.driver,
            exec_ids=list(container.execs) or None,
            host_config=self._host_config(record),
            graph_driver=await self._graph_driver(container),
            size_rw=used[0],
            size_root_fs=used[1],
            app_armor_profile=self._apparmor(record),
            mounts=record.mounts,
            config=record.config,
            network_settings=self._network_settings(container),
        )

    def _host_config(self, record: Record) -> HostConfig:
        if not record.host_config.links:
            return record.host_config
        return structs.replace(record.host_config, links=self._links.shown(record))

    def _network_settings(self, container: Container) -> NetworkSettings:
        if container.running and (settings := self._networks.settings(container.id)):
            # Our namespaces have no name in the file system: the process stands for them.
            settings.sandbox_key = f"/proc/{container.record.pid}/ns/net"
            return settings
        if container.running and container.network:
            return container.network
        return self._networks.settings_at_rest(wish(container.record))

    async def _graph_driver(self, container: Container) -> DriverData:
        try:
            data = await blocking(self._mounter.graph, container.id)
        except SampanError:
            data = {}
        if container.running and data:
            data["MergedDir"] = f"/proc/{container.record.pid}/root"
        return DriverData(name=container.record.driver, data=data or None)

    async def _sizes(self, container: Container) -> tuple[int, int]:
        """Return the bytes of the writable layer, and of all layers together."""
        own = (await blocking(self._mounter.usage, container.id)).size
        image = self._images.get(container.record.image)
        below = self._images.size(image) if image else 0
        return own, own + below

    async def list(self, query: ListQuery) -> list[ContainerSummary]:
        """Return the containers that pass, newest first."""
        filters = Filters(query.filters, KEYS)
        _check(filters)
        newest = sorted(self._table, key=lambda each: each.record.created, reverse=True)
        bounds = self._bounds(filters)
        ancestors = await self._ancestors(filters)
        everything = query.all or query.limit > 0 or "status" in filters or "exited" in filters
        result = []
        linked = self._links.names()
        for container in newest:
            if not (everything or container.running or container.restarting):
                continue
            if not _passes(container, filters, bounds):
                continue
            if ancestors is not None and container.record.image not in ancestors:
                continue
            summary = self._summary(container)
            summary.names += linked.get(container.id, [])
            if not _network_passes(summary, filters):
                continue
            published = [f"{port.public_port}/{port.type}" for port in summary.ports]
            if not _port_passes("publish", published, filters):
                continue
            if query.size:
                summary.size_rw, summary.size_root_fs = await self._sizes(container)
            result.append(summary)
            if 0 < query.limit <= len(result):
                break
        return result

    def _bounds(self, filters: Filters) -> tuple[int, int]:
        """Return the times of creation between which containers are wanted."""
        since = max(
            (self._table.find(r).record.created for r in filters.values("since")), default=0
        )
        before = min(
            (self._table.find(r).record.created for r in filters.values("before")), default=0
        )
        return since, before

    async def _ancestors(self, filters: Filters) -> set[str] | None:
        """Return the images whose containers are wanted; None for all."""
        if "ancestor" not in filters:
            return None
        found = set()
        for name in filters.values("ancestor"):
            try:
                found.add((await self._images.resolve(name)).id)
            except (NotFound, InvalidArgument):
                continue
        return found

    def _summary(self, container: Container) -> ContainerSummary:
        record = container.record
        settings = self._network_settings(container)
        command = " ".join([record.path, *(_quoted(word) for word in record.args)])
        return ContainerSummary(
            id=record.id,
            names=[f"/{record.name}"],
            image=self._image_name(container),
            image_id=record.image,
            command=command,
            created=record.created // 10**9,
            ports=_ports(settings),
            labels=record.config.labels or {},
            state=container.status,
            status=container.status_text(),
            host_config=SummaryHostConfig(network_mode=record.host_config.network_mode),
            network_settings=SummaryNetworkSettings(networks=settings.networks),
            mounts=record.mounts,
        )

    def _image_name(self, container: Container) -> str:
        """Return the name it was made by, or the id if that name means another image now."""
        name, image = container.config.image, container.record.image
        for reference in self._images.references(image):
            if name in (reference.familiar, reference.familiar_name):
                return name
        return name if image.removeprefix("sha256:").startswith(name) or name == image else image


def _quoted(word: str) -> str:
    """Quote a word with spaces as the list shows it (moby daemon/list.go)."""
    return f"'{word}'" if " " in word else word


def _ports(settings: NetworkSettings) -> list[Port]:
    found = []
    for port, bindings in settings.ports.items():
        number, _, protocol = port.partition("/")
        if not bindings:
            found.append(Port(private_port=int(number), type=protocol))
        if any(not binding.host_port for binding in bindings or []):  # routed: none of the host's
            found.append(Port(private_port=int(number), type=protocol))
        for binding in bindings or []:
            if not binding.host_port:
                continue
            found.append(
                Port(
                    ip=binding.host_ip or UNSET,
                    private_port=int(number),
                    public_port=int(binding.host_port),
                    type=protocol,
                )
            )
    return found


def _check(filters: Filters) -> None:
    for value in filters.values("status"):
        if value not in STATES:
            raise InvalidArgument(f"invalid filter 'status={value}'")
    for value in filters.values("health"):
        if value not in ("starting", "healthy", "unhealthy", "none"):
            raise InvalidArgument(f"invalid filter 'health={value}'")
    for value in filters.values("exited"):
        if not value.lstrip("-").isdigit():
            raise InvalidArgument(f"invalid filter 'exited={value}'")
    filters.boolean("is-task")


def _passes(container: Container, filters: Filters, bounds: tuple[int, int]) -> bool:
    record = container.record
    since, before = bounds
    health = container.health.status if container.health else "none"
    exited = {int(code) for code in filters.values("exited")}
    return (
        filters.matching("id", record.id)
        and filters.matching("name", record.name, f"/{record.name}")
        and filters.labels(record.config.labels or {})
        and filters.one_of("status", container.status)
        and filters.one_of("health", health)
        and (not exited or (container.status == "exited" and record.exit_code in exited))
        and (not since or record.created > since)
        and (not before or record.created < before)
        and filters.boolean("is-task") is not True
        and _volume_passes(container, filters)
        and _port_passes("expose", list(record.config.exposed_ports or {}), filters)
    )


def _volume_passes(container: Container, filters: Filters) -> bool:
    shown = {
        value
        for mount in container.record.mounts
        for value in (mount.name, mount.source, mount.destination)
        if value
    }
    return "volume" not in filters or any(value in shown for value in filters.values("volume"))


def _port_passes(key: str, ports: list[str], filters: Filters) -> bool:
    """Tell whether one of the wanted ports ("80", "80/udp", "80-90/tcp") is there."""
    if key not in filters:
        return True
    for value in filters.values(key):
        span, _, protocol = value.partition("/")
        first, _, last = span.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise InvalidArgument(f"invalid filter '{key}={value}'")
        for port in ports:
            number, _, kind = port.partition("/")
            inside = number.isdigit() and int(first) <= int(number) <= int(last or first)
            if inside and kind == (protocol or "tcp"):
                return True
    return False


def _network_passes(summary: ContainerSummary, filters: Filters) -> bool:
    if "network" not in filters:
        return True
    networks = summary.network_settings.networks
    return any(
        value in networks or any(value == each.network_id for each in networks.values())
        for value in filters.values("network")
    )
