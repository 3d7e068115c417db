"""Making containers: checks, the image's defaults, a name, a snapshot, a row in the database."""

from __future__ import annotations

import io
import itertools
import os
import posixpath
import sqlite3
import tarfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container, Record
from sampan.engine.containers.joining import check_shareable
from sampan.engine.containers.lookup import Table
from sampan.engine.containers.merging import merged
from sampan.engine.containers.notices import Notices
from sampan.engine.containers.store import ContainerStore
from sampan.engine.images.images import Image, Images
from sampan.engine.networks.links import Links
from sampan.engine.networks.networks import Networks
from sampan.engine.networks.wishes import wish
from sampan.engine.oci.cdi import DeviceNames
from sampan.engine.oci.cgroup_placement import CgroupPlacement
from sampan.engine.oci.checks import check_create
from sampan.engine.oci.security import Confinement
from sampan.engine.oci.user_namespaces import UserNamespaces
from sampan.engine.snapshot_driver import SnapshotDriver
from sampan.engine.undisturbed import undisturbed
from sampan.engine.volumes.container_mounts import ContainerMounts
from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.logs.driver import validate_options
from sampan.rpc import Fd
from sampan.spec.docker.config import Config, HostConfig
from sampan.spec.docker.containers import CreateRequest, CreateResponse
from sampan.spec.generated_names import generate_name
from sampan.spec.names import new_id, short_id
from sampan.spec.platform import Platform
from sampan.storage.mounter import ExtractOptions, Mounter


class Creation:
    """Source: moby daemon/create.go, container.go."""

    def __init__(
        self,
        *,
        table: Table,
        store: ContainerStore,
        images: Images,
        networks: Networks,
        links: Links,
        mounts: ContainerMounts,
        mounter: Mounter,
        notices: Notices,
        driver: SnapshotDriver,
        users: UserNamespaces,
        default_shm_size: int,
        confinement: Confinement,
        device_names: DeviceNames,
        placement: CgroupPlacement,
        log_driver: str,
        log_options: Mapping[str, str],
    ) -> None:
        self._table, self._store, self._images = table, store, images
        self._networks, self._mounter, self._notices = networks, mounter, notices
        self._links, self._mounts = links, mounts
        self._driver, self._users = driver, users
        self._shm_size, self._confinement = default_shm_size, confinement
        self._device_names, self._placement = device_names, placement
        self._log_driver, self._log_options = log_driver, log_options

    async def create(
        self,
        request: CreateRequest,
        name: str = "",
        platform: str = "",
        image: Image | None = None,
    ) -> CreateResponse:
        """Make a container; it is durable when this returns.

        `image` is one that is in no store, with layers that are: what a build has made so far.
        """
        image = image or await self._image(request, platform)
        config = merged(Config(**_fields_of_config(request)), image.config.run)
        host_config = request.host_config
        host_config.runtime = host_config.runtime or request.runtime
        self._log_defaults(host_config)
        warnings = self._check(config, host_config)
        record = self._record(request, image, config)
        size = self._driver.size(host_config)
        async with AsyncExitStack() as at_end, AsyncExitStack() as undo:
            record.name = self._reserve(name.removeprefix("/"), record.id)
            undo.callback(self._table.release, record.name)
            self._name_host(record)
            if not platform:
                warnings += _foreign(image)
            self._check_joins(record)
            self._links.settle(record)
            self._users.reserve(record, at_end)
            warnings += await self._networks.check(wish(record))
            claim = await self._mounts.claim(record)
            undo.push_async_callback(self._mounts.abandon, claim)
            undo.push_async_callback(undisturbed, self._mounter.remove, record.id)
            await undisturbed(self._mounter.prepare, record.id, image.chain_id, size)
            await self._make_working_folder(record, image)
            await self._mounts.fill(record.id, claim)
            container = await self._saved(record)
            undo.pop_all()
        self._table.add(container)
        self._mounts.settle(claim)
        self._notices.container(container, "create")
        return CreateResponse(id=record.id, warnings=warnings)

    def _record(self, request: CreateRequest, image: Image, config: Config) -> Record:
        """Return the record of a new container, which has no name yet."""
        path, arguments = _command(config)
        networking = request.networking_config
        return Record(
            id=new_id(),
            name="",
            created=time.time_ns(),
            image=image.id,
            path=path,
            args=arguments,
            config=config,
            host_config=request.host_config,
            endpoints=(networking.endpoints_config or {}) if networking else {},
            driver=self._driver.name,
        )

    async def _saved(self, record: Record) -> Container:
        container = Container(record)
        container.ended.set()
        try:
            await self._store.save(container)
        except sqlite3.IntegrityError as error:
            raise Conflict(f'The name "/{record.name}" is already in use') from error
        return container

    async def _image(self, request: CreateRequest, platform: str) -> Image:
        if not request.image:
            raise InvalidArgument("Config cannot be empty in order to create a container")
        wanted = Platform.parse(platform) if platform else None
        return await self._images.resolve(request.image, wanted)

    def _check(self, config: Config, host_config: HostConfig) -> list[str]:
        return check_create(
            config,
            host_config,
            shm_size=self._shm_size,
            confinement=self._confinement,
            names=self._device_names,
            placement=self._placement,
        )

    def _reserve(self, name: str, id: str) -> str:
        if name:
            self._table.reserve(name, id)
            return name
        candidate = generate_name()
        for retry in itertools.count():
            if not self._table.is_taken(candidate):
                break
            candidate = generate_name(retry)
        self._table.reserve(candidate, id)
        return candidate

    def _log_defaults(self, host_config: HostConfig) -> None:
        """Fill in the daemon's log driver; its options count only for that driver."""
        log_config = host_config.log_config
        log_config.type = log_config.type or self._log_driver
        own = log_config.config or {}
        inherited = self._log_options if log_config.type == self._log_driver else {}
        log_config.config = {**inherited, **own}
        validate_options(log_config.type, log_config.config)

    def _other(self, ref: str) -> Container:
        """Return a container that the new one refers to.

        Raises InvalidArgument if there is none: clients take NotFound for a missing image.
        """
        try:
            return self._table.find(ref)
        except NotFound as error:
            raise InvalidArgument(str(error)) from error

    def _name_host(self, record: Record) -> None:
        """Fill in the host name: the host's, that of a joined container, or the short id."""
        config, host_config = record.config, record.host_config
        kind, _, target = host_config.network_mode.partition(":")
        if kind == "container":
            other = self._other(target).config
            config.hostname, config.domainname = other.hostname, other.domainname
        elif "host" in (kind, host_config.uts_mode):
            config.hostname = config.hostname or os.uname().nodename
        else:
            config.hostname = config.hostname or short_id(record.id)

    def _check_joins(self, record: Record) -> None:
        """Refuse namespaces of containers that are not there, by Docker's words."""
        host_config = record.host_config
        for mode in (host_config.network_mode, host_config.pid_mode, host_config.ipc_mode):
            kind, _, target = mode.partition(":")
            if kind == "container":
                other = self._other(target)
                if mode is host_config.ipc_mode:
                    check_shareable(other)

    async def _make_working_folder(self, record: Record, image: Image) -> None:
        """Make `WorkingDir` inside the snapshot, owned by root, if the image does not have it."""
        folder = record.config.working_dir
        if not folder or folder == "/":
            return
        if not folder.startswith("/"):
            raise InvalidArgument(
                f"the working directory '{folder}' is invalid, it needs to be an absolute path"
            )
        try:
            await blocking(self._mounter.stat, record.id, folder)
        except NotFound:
            archive = os.memfd_create("working-folder")
            with Fd(archive):
                os.write(archive, _folders(posixpath.normpath(folder)))
                os.lseek(archive, 0, os.SEEK_SET)
                await blocking(self._mounter.extract, record.id, "/", Fd(archive), ExtractOptions())


def _foreign(image: Image) -> list[str]:
    """Warn of an image that this machine cannot run without an emulator."""
    own, host = image.config.platform, Platform.host()
    if host.runs(own):
        return []
    return [
        f"The requested image's platform ({own}) does not match the detected host platform ({host})"
        " and no specific platform was requested"
    ]


def _fields_of_config(request: CreateRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in Config.__struct_fields__}


def _command(config: Config) -> tuple[str, list[str]]:
    """Return program and arguments of entry point and command together."""
    words = [*(config.entrypoint or []), *(config.cmd or [])]
    if not words or not words[0]:
        raise InvalidArgument("no command specified")
    return words[0], words[1:]


def _folders(path: str) -> bytes:
    """Return a tar with the folder `path` and all above it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            entry = tarfile.TarInfo("/".join(parts[:depth]))
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
            tar.addfile(entry)
    return buffer.getvalue()
