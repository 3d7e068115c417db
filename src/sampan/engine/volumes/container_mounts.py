"""What containers have mounted: claimed when they are made, ready while they run.

Source: moby daemon/volumes.go, volumes_unix.go, create_unix.go.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from msgspec import UNSET

from sampan.engine.blocking import blocking, in_own_thread
from sampan.engine.containers.container import Record
from sampan.engine.images.images import Images
from sampan.engine.oci import mounts as oci_mounts
from sampan.engine.oci.mounts import Point
from sampan.engine.volumes.database import VolumeRow
from sampan.engine.volumes.obtaining import Obtained, Wanted
from sampan.engine.volumes.single_files import SingleFiles
from sampan.engine.volumes.volumes import Volumes
from sampan.errors import NotFound, SampanError
from sampan.rpc import Fd
from sampan.runtime.spawner import Source
from sampan.spec.docker.config import DriverConfig, HostConfig, Mount, VolumeOptions
from sampan.spec.docker.containers import MountPoint
from sampan.storage.mounter import Mounter
from sampan.storage.volume_keeper import Fill, VolumeKeeper
from sampan.volumes.local import LOCAL, has_foreign_ids, is_mounted

log = logging.getLogger(__name__)
_DEFAULT_MODE: Final = "z"  # what Docker shows of local volumes without a mode


@dataclass(slots=True)
class Claim:
    """The mounts of a container that is being made."""

    mounts: list[MountPoint] = field(default_factory=list)
    specs: dict[str, Mount] = field(default_factory=dict)  # by destination
    images: dict[str, str] = field(default_factory=dict)  # image ids by destination
    late_fills: list[str] = field(default_factory=list)  # destinations that a start fills
    fills: list[Fill] = field(default_factory=list)
    obtained: Obtained = field(default_factory=Obtained)


@dataclass(slots=True)
class Ready:
    """What a start has to know of mounts that are ready."""

    sources: list[Source] = field(default_factory=list)
    foreign_ids: set[str] = field(default_factory=set)  # destinations of volumes to be left as is

    def close(self) -> None:
        """Close the descriptors of images."""
        for source in self.sources:
            if source.tree:
                source.tree.close()


class ContainerMounts:
    """The mounts of this engine's containers. `record_of` finds another container's record."""

    def __init__(
        self,
        volumes: Volumes,
        images: Images,
        mounter: Mounter,
        keeper: VolumeKeeper,
        files: SingleFiles,
        record_of: Callable[[str], Record],
    ) -> None:
        self._store, self._obtaining = volumes.store, volumes.obtaining
        self._removal, self._images = volumes.removal, images
        self._mounter, self._keeper = mounter, keeper
        self._record_of, self.files = record_of, files
        self._users: dict[str, set[str]] = {}  # who has a volume mounted, by its name

    # --- making a container ------------------------------------------------------------------

    async def claim(self, record: Record) -> Claim:
        """Settle what a new container has mounted, in its record too; volumes are made.

        All or nothing. Call `settle` when the container is saved, or take it back with `abandon`.
        """
        claim = Claim()
        self._take(claim, record.host_config)
        taken = {point.destination for point in claim.mounts}
        points = [
            point
            for point in oci_mounts.parse(record.config, record.host_config)
            if not (point.from_config and point.destination in taken)
        ]
        found = await self._obtain(record.id, points)
        try:
            rows = iter(found.rows)  # in the order in which they were wanted
            for point in points:
                await self._add(claim, point, rows)
        except BaseException:
            await self._obtaining.abandon(found)
            raise
        claim.obtained = found
        record.mounts, record.specs = claim.mounts, claim.specs
        record.images, record.late_fills = claim.images, claim.late_fills
        return claim

    async def _obtain(self, container: str, points: list[Point]) -> Obtained:
        wanted = [
            Wanted(
                name=point.name,
                driver=point_driver(point.spec).name,
                labels=(point.spec.volume_options or VolumeOptions()).labels,
                options=point_driver(point.spec).options,
                made_for=container,
            )
            for point in points
            if point.kind == "volume"
        ]
        return await self._obtaining.obtain(wanted)

    async def _add(self, claim: Claim, point: Point, rows: Iterator[VolumeRow]) -> None:
        claim.mounts = [it for it in claim.mounts if it.destination != point.destination]
        claim.images.pop(point.destination, None)
        claim.specs[point.destination] = point.spec
        mount = MountPoint(
            type=point.kind,
            source=point.source,
            destination=point.destination,
            mode=point.mode,
            rw=point.writable,
            propagation=point.propagation,
        )
        if point.kind == "image":
            claim.images[point.destination] = (await self._images.resolve(point.source)).id
        elif point.kind == "volume":
            row = next(rows)
            mount.name, mount.driver = row.name, row.driver
            mount.source = self._store.paths.get(row.name, "")  # of a plug-in's, if it has said
            if row.driver == LOCAL:
                mount.source = self._store.drivers.local.path(row.name)
            if row.driver == LOCAL and not point.from_config:
                mount.mode = mount.mode or _DEFAULT_MODE
            self._note_fill(claim, point, row)
        claim.mounts.append(mount)

    def _note_fill(self, claim: Claim, point: Point, row: VolumeRow) -> None:
        if not point.copy_up:
            return
        if row.driver != LOCAL or is_mounted(row.options or {}):
            claim.late_fills.append(point.destination)
            return
        fill = Fill(volume=row.name, path=point.destination, in_place=row.name in self._users)
        claim.fills.append(fill)

    def _take(self, claim: Claim, host: HostConfig) -> None:
        """Take over the mounts of other containers; the last one wins a place."""
        for item in host.volumes_from or ():
            name, mode = oci_mounts.parse_volumes_from(item)
            other = self._record_of(name)
            read_only = "ro" in mode.split(",")
            for each in other.mounts:
                place = each.destination
                claim.mounts = [it for it in claim.mounts if it.destination != place]
                claim.images.pop(place, None)
                claim.mounts.append(
                    MountPoint(
                        type=each.type,
                        name=each.name,
                        source=each.source,
                        destination=place,
                        driver=each.driver,
                        mode=mode,
                        rw=each.rw and not read_only,
                        propagation=each.propagation,
                    )
                )
                claim.specs[place] = other.specs.get(place, Mount(type=each.type))
                if place in other.images:
                    claim.images[place] = other.images[place]

    async def fill(self, container: str, claim: Claim) -> None:
        """Give empty volumes what the image of a new container has at their places."""
        if claim.fills:
            with await blocking(self._mounter.mount, container, True) as root:
                await in_own_thread(self._keeper.fill_volumes, root, claim.fills)

    def settle(self, claim: Claim) -> None:
        """Let go of what a claim held: the container is there, and its record holds it now."""
        self._store.release(claim.obtained.rows)

    async def abandon(self, claim: Claim) -> None:
        """Take back a claim: volumes that were made for it go."""
        await self._obtaining.abandon(claim.obtained)

    # --- running -----------------------------------------------------------------------------

    async def mount(self, record: Record, user: str = "", *, namespace: Fd | None = None) -> Ready:
        """Have everything ready that a container is to have mounted. Emits `mount` for volumes.

        `user` stands for somebody else who needs the same, a copy say, and has no events. Files of
        images are shown shifted into the user namespace `namespace`.
        """
        ready = Ready()
        try:
            for point in record.mounts:
                spec = record.specs.get(point.destination, Mount())
                if point.type == "volume":
                    await self._mount_volume(record, point, spec, user, ready)
                elif point.type == "image":
                    image = self._images.get(record.images.get(point.destination, ""))
                    if image is None or image.chain_id is None:
                        raise NotFound(f"No such image: {point.source}")
                    tree = await blocking(self._mounter.mount, image.chain_id, True, namespace)
                    subpath = spec.image_options.subpath if spec.image_options else ""
                    ready.sources.append(
                        Source(destination=point.destination, subpath=subpath, tree=tree)
                    )
        except BaseException:
            ready.close()
            await self.unmount(record, user)
            raise
        return ready

    async def _mount_volume(
        self, record: Record, point: MountPoint, spec: Mount, user: str, ready: Ready
    ) -> None:
        row = self._store.row(str(point.name))
        key = user or record.id
        async with self._store.lock(row.name):
            if key not in self._users.get(row.name, ()):
                if row.driver != LOCAL or is_mounted(row.options or {}):
                    driver = await self._store.driver(row)
                    made = await in_own_thread(driver.mount, row.name, row.options or {}, key)
                    self._store.paths[row.name] = made.source
                self._users.setdefault(row.name, set()).add(key)
            if row.driver != LOCAL:
                point.source = self._store.paths.get(row.name, "")
        if row.driver != LOCAL or has_foreign_ids(row.options or {}):
            ready.foreign_ids.add(point.destination)
        subpath = spec.volume_options.subpath if spec.volume_options else ""
        strict = row.driver != LOCAL
        if subpath or strict:
            ready.sources.append(
                Source(destination=point.destination, subpath=subpath, strict=strict)
            )
        if not user:
            attributes = {
                "driver": row.driver,
                "container": record.id,
                "destination": point.destination,
                "read/write": str(point.rw).lower(),
                "propagation": point.propagation,
            }
            self._store.emit("mount", row.name, attributes)

    async def unmount(self, record: Record, user: str = "") -> None:
        """Let go of the volumes of a container that has ended. Emits `unmount`."""
        key = user or record.id
        for name in dict.fromkeys(str(it.name) for it in record.mounts if it.type == "volume"):
            async with self._store.lock(name):
                users = self._users.get(name)
                if users is None or key not in users:
                    continue
                users.discard(key)
                if not users:
                    del self._users[name]
                with suppress(NotFound):
                    await self._unmount_volume(self._store.row(name), key, last=not users)
            if not user:
                driver = next(it.driver for it in record.mounts if it.name == name)
                self._store.emit("unmount", name, {"driver": str(driver), "container": record.id})

    async def _unmount_volume(self, row: VolumeRow, key: str, *, last: bool) -> None:
        if row.driver == LOCAL and not is_mounted(row.options or {}):
            return
        try:
            driver = await self._store.driver(row)
            await in_own_thread(driver.unmount, row.name, row.options or {}, key, last=last)
        except SampanError as error:
            log.warning("volume %s stays mounted: %s", row.name, error)

    def resume(self, records: Iterable[Record]) -> None:
        """Note which volumes are mounted by containers that ran before this daemon did."""
        for record in records:
            for point in record.mounts:
                if point.type == "volume" and point.name is not UNSET:
                    self._users.setdefault(point.name, set()).add(record.id)

    # --- removing a container ----------------------------------------------------------------

    async def forget(self, record: Record) -> None:
        """Note that a container is about to be removed: what was made with it may stay."""
        if any(point.type == "volume" for point in record.mounts):
            await self._obtaining.outlive(record.id)

    async def remove_anonymous(self, record: Record) -> None:
        """Remove the volumes that a container has without having named them, after it is gone."""
        names = [
            str(point.name)
            for point in record.mounts
            if point.type == "volume"
            and not record.specs.get(point.destination, Mount(source="named")).source
        ]
        if names:
            await self._removal.remove_anonymous(dict.fromkeys(names))


def point_driver(spec: Mount) -> DriverConfig:
    """Return the driver that a mount asks for."""
    options = spec.volume_options or VolumeOptions()
    return options.driver_config or DriverConfig()
