"""Changing containers that exist: name, limits, and into an image."""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import structs

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.engine.containers.lookup import Table
from sampan.engine.containers.notices import Notices
from sampan.engine.containers.store import ContainerStore
from sampan.engine.images.images import CommitRequest, Images
from sampan.engine.networks.networks import Networks
from sampan.engine.oci.checks import check_update
from sampan.engine.oci.resource_spec import linux_resources
from sampan.errors import Conflict, InvalidArgument, NotFound, SampanError
from sampan.network import ports
from sampan.runtime.spawner import Spawner
from sampan.spec.docker.config import Config, HostConfig, Resources
from sampan.spec.docker.containers import UpdateRequest, UpdateResponse
from sampan.spec.image import RunConfig
from sampan.spec.reference import Reference


class Updating:
    """Source: moby daemon/rename.go, update.go, commit.go."""

    def __init__(
        self,
        *,
        table: Table,
        store: ContainerStore,
        images: Images,
        networks: Networks,
        spawner: Spawner,
        notices: Notices,
    ) -> None:
        self._table, self._store, self._images = table, store, images
        self._spawner, self._notices, self._networks = spawner, notices, networks

    async def rename(self, container: Container, new_name: str) -> None:
        """Give a container another name."""
        new_name = new_name.removeprefix("/")
        if not new_name:
            raise InvalidArgument("Neither old nor new names may be empty")
        old_name = container.name
        if new_name == old_name:
            raise InvalidArgument("Renaming a container with the same name as its current name")
        async with container.lock:
            self._table.reserve(new_name, container.id)
            container.record.name = new_name
            try:
                await self._store.save(container)
            except BaseException as error:
                container.record.name = old_name
                self._table.release(new_name)
                if isinstance(error, sqlite3.IntegrityError):
                    raise Conflict(f'The name "/{new_name}" is already in use') from error
                raise
            self._table.release(old_name)
        await self._networks.rename(container.id, new_name)
        self._notices.container(container, "rename", oldName=f"/{old_name}")

    async def update(self, container: Container, request: UpdateRequest) -> UpdateResponse:
        """Change limits, published ports and restart policy; of a running container at once."""
        if container.removing or container.record.dead:
            raise Conflict(f"container {container.id} is marked for removal and cannot be updated")
        async with container.lock:
            warnings = check_update(request, request.restart_policy)
            if reason := contradiction(container.host_config, request):
                raise Conflict(f"Cannot update container {container.id}: {reason}")
            unwanted = [ports.Unwanted.parse(text) for text in request.publish_remove or ()]
            ports.check(request.publish_add or {})
            host_config = updated(container.host_config, request)
            add = request.publish_add or {}
            if unwanted or add:
                kept = ports.without(host_config.port_bindings or {}, unwanted)
                host_config.port_bindings = dict(ports.together(kept, add))
            if container.running:
                resources = linux_resources(host_config)
                try:
                    await blocking(self._spawner.update, container.id, resources)
                except SampanError:  # some of the limits were written before the one refused
                    before = linux_resources(container.host_config)
                    with suppress(SampanError):
                        await blocking(self._spawner.update, container.id, before)
                    raise
                if unwanted or add:
                    await self._networks.publish(container.id, add, unwanted)
                    container.network = self._networks.settings(container.id)
            container.record.host_config = host_config
            await self._store.save(container)
        self._notices.container(container, "update")
        return UpdateResponse(warnings=warnings or None)

    async def commit(
        self,
        container: Container,
        *,
        repo: str = "",
        tag: str = "",
        comment: str = "",
        author: str = "",
        pause: bool = True,
        changes: Sequence[str] = (),
        config: Config | None = None,
    ) -> str:
        """Make an image of a container and return its id."""
        if container.removing or container.record.dead:
            raise Conflict(f"You cannot commit container {container.id} which is being removed")
        reference = Reference.parse(f"{repo}:{tag}" if tag else repo) if repo else None
        freeze = pause and container.running and not container.record.paused
        if freeze:
            await self._freeze(container, frozen=True)
        try:
            image = await self._images.commit(
                CommitRequest(
                    container=container.id,
                    image=container.record.image,
                    config=run_config(container.config),
                    override=run_config(config) if config else None,
                    changes=changes,
                    author=author,
                    comment=comment,
                    reference=reference,
                )
            )
        finally:
            if freeze:
                await self._freeze(container, frozen=False)
        shown = reference.familiar if reference else ""
        self._notices.container(container, "commit", comment=comment, imageID=image, imageRef=shown)
        return image

    async def _freeze(self, container: Container, *, frozen: bool) -> None:
        with suppress(NotFound, Conflict):  # it has just ended
            await blocking(self._spawner.freeze, container.id, frozen=frozen)


# What `update` can change. Source: moby container/container_unix.go UpdateContainer; real-time
# limits are ours: Docker takes them and does nothing.
CHANGEABLE: Final = (
    *("blkio_weight", "cpu_shares", "cpu_period", "cpu_quota", "cpu_realtime_period"),
    *("cpu_realtime_runtime", "cpuset_cpus", "cpuset_mems", "memory", "memory_reservation"),
    *("memory_swap", "nano_cpus", "pids_limit", "kernel_memory_tcp"),
)


def contradiction(now: HostConfig, request: UpdateRequest) -> str:
    """Return why a request does not go with what the container has, "" if it does."""
    if request.nano_cpus > 0:
        for there, what in ((now.cpu_period, "CPU Period"), (now.cpu_quota, "CPU Quota")):
            if there > 0:
                return (
                    f"Conflicting options: Nano CPUs cannot be updated as {what} has "
                    "already been set"
                )
    if now.nano_cpus > 0:
        for wanted, what in ((request.cpu_period, "CPU Period"), (request.cpu_quota, "CPU Quota")):
            if wanted > 0:
                return (
                    f"Conflicting options: {what} cannot be updated as NanoCPUs has "
                    "already been set"
                )
    if 0 < now.memory_swap < request.memory and not request.memory_swap:
        return (
            "Memory limit should be smaller than already set memoryswap limit, update the"
            " memoryswap at the same time"
        )
    after = updated(now, request)
    if 0 < after.memory_swap < after.memory:
        return "Minimum memoryswap limit should be larger than memory limit, see usage"
    if 0 < after.memory < after.memory_reservation:
        return "Minimum memory limit can not be less than memory reservation limit, see usage"
    if request.restart_policy.name and request.restart_policy.name != "no" and now.auto_remove:
        return "Restart policy cannot be updated because AutoRemove is enabled for the container"
    return ""


def updated(host_config: HostConfig, request: UpdateRequest) -> HostConfig:
    """Return a copy with every limit that the request names."""
    result = copy.deepcopy(host_config)
    blank = Resources()
    for name in CHANGEABLE:
        value = getattr(request, name)
        if value != getattr(blank, name):
            setattr(result, name, value)
    if request.restart_policy.name:
        result.restart_policy = request.restart_policy
    return result


def run_config(config: Config) -> RunConfig:
    """Return the part of a container's configuration that an image can hold."""
    known = {
        name: getattr(config, name)
        for name in RunConfig.__struct_fields__
        if getattr(config, name, msgspec.UNSET) is not msgspec.UNSET
    }
    for words in ("cmd", "entrypoint"):
        if isinstance(known.get(words), str):
            known[words] = [known[words]]
    blank = structs.asdict(RunConfig())
    return RunConfig(**{n: blank[n] if v is None else v for n, v in known.items()})
