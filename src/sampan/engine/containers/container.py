"""One container as the engine holds it: the record that lasts, and what is true while it runs."""

from __future__ import annotations

import asyncio
import select
import time
from dataclasses import dataclass, field

import msgspec

from sampan.engine.containers.oom_watch import OOMWatch
from sampan.rpc import Fd
from sampan.spec.docker.config import Config, HostConfig, Mount
from sampan.spec.docker.containers import ZERO_TIME, Health, MountPoint, State, WaitResponse
from sampan.spec.docker.networks import EndpointSettings, NetworkSettings
from sampan.spec.image import timestamp
from sampan.spec.names import short_id
from sampan.spec.user_modes import IdMaps


class Record(msgspec.Struct, kw_only=True):
    """What the database keeps of a container."""

    id: str
    name: str  # without the leading slash
    created: int  # nanoseconds since the epoch, like all times here
    image: str  # sha256:…, "" if the container was made of nothing
    path: str
    args: list[str]
    config: Config
    host_config: HostConfig
    endpoints: dict[str, EndpointSettings | None] = {}
    off_networks: bool = False  # it has left its last network; its mode is none until it joins one
    linked: list[str] = []  # what links have put into its hosts: "names:address"
    mounts: list[MountPoint] = []
    specs: dict[str, Mount] = {}  # what was wanted of each of them, by destination
    images: dict[str, str] = {}  # ids of the images among them, by destination
    late_fills: list[str] = []  # destinations of volumes that the first start fills
    driver: str = "overlay"
    id_range: tuple[int, int] | None = None  # first and number of the host's ids that it runs in
    id_maps: IdMaps | None = None  # of its last start; None: in the host's user namespace
    # The last known state; while the container runs, the kernel knows better.
    started: bool = False  # it has been asked to run and was not seen to end
    paused: bool = False
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: int = 0
    finished_at: int = 0
    restart_count: int = 0
    manually_stopped: bool = False
    boot_id: str = ""  # of the boot in which it was started


@dataclass(slots=True, eq=False)
class Container:
    """A container of this engine. `lock` is held by whoever changes its state."""

    record: Record
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: bool = False
    restarting: bool = False
    removing: bool = False
    pidfd: Fd | None = None
    oom: OOMWatch | None = None
    cgroup: str = ""
    network: NetworkSettings | None = None
    health: Health | None = None
    execs: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # set whenever it does not run
    ending: bool = False  # its process is gone, and what it had is being taken back
    exits: list[asyncio.Future[WaitResponse]] = field(default_factory=list)  # next exit
    removals: list[asyncio.Future[WaitResponse]] = field(default_factory=list)  # removal
    restart: asyncio.Task[None] | None = None  # waits to start it again
    probes: asyncio.Task[None] | None = None  # runs its health checks
    stop_requested: bool = False

    @property
    def id(self) -> str:
        """The container's full id."""
        return self.record.id

    @property
    def short_id(self) -> str:
        """The twelve digits that people see."""
        return short_id(self.record.id)

    @property
    def name(self) -> str:
        """The name, without the leading slash."""
        return self.record.name

    @property
    def config(self) -> Config:
        """What does not depend on the host."""
        return self.record.config

    @property
    def host_config(self) -> HostConfig:
        """What depends on the host."""
        return self.record.host_config

    @property
    def status(self) -> str:
        """Docker's word for the state: created, running, paused, restarting, removing, exited."""
        if self.record.dead:
            return "dead"
        if self.removing:
            return "removing"
        if self.restarting:
            return "restarting"
        if self.running:
            return "paused" if self.record.paused else "running"
        return "exited" if self.record.started_at else "created"

    def state(self) -> State:
        """Return `State` of inspect."""
        record = self.record
        return State(
            status=self.status,
            running=self.running or self.restarting,
            paused=self.running and record.paused,
            restarting=self.restarting,
            oom_killed=record.oom_killed,
            dead=record.dead,
            pid=record.pid if self.running else 0,
            exit_code=0 if self.running else record.exit_code,
            error=record.error,
            started_at=timestamp(record.started_at) if record.started_at else ZERO_TIME,
            finished_at=timestamp(record.finished_at) if record.finished_at else ZERO_TIME,
            health=self.health or msgspec.UNSET,
        )

    def status_text(self) -> str:
        """Return the STATUS column of `docker ps`. Source: moby daemon/container/state.go."""
        record, now = self.record, time.time_ns()
        if self.restarting:
            ago = human_duration(now - record.finished_at)
            return f"Restarting ({record.exit_code}) {ago} ago"
        if self.running:
            up = f"Up {human_duration(now - record.started_at)}"
            if record.paused:
                return f"{up} (Paused)"
            if self.health and self.health.status == "starting":
                return f"{up} (health: starting)"
            if self.health and self.health.status != "none":
                return f"{up} ({self.health.status})"
            return up
        if self.removing:
            return "Removal In Progress"
        if record.dead:
            return "Dead"
        if not record.started_at:
            return "Created"
        if not record.finished_at:
            return ""
        return f"Exited ({record.exit_code}) {human_duration(now - record.finished_at)} ago"

    async def settled(self) -> None:
        """Return at once, unless it is just ending: then when it has ended."""
        if self.ending or (self.pidfd and _is_readable(self.pidfd)):
            await self.ended.wait()

    def close_watch(self) -> None:
        """Close the descriptors of the process that ran."""
        if self.pidfd:
            self.pidfd.close()
        if self.oom:
            self.oom.end()
        self.pidfd = self.oom = None


def _is_readable(descriptor: Fd) -> bool:
    poll = select.poll()
    poll.register(descriptor.number, select.POLLIN)
    return bool(poll.poll(0))


def human_duration(nanoseconds: int) -> str:
    """Return a duration as Docker says it: "About a minute", "3 hours". Source: go-units."""
    seconds = max(nanoseconds, 0) // 10**9
    minutes, hours = seconds // 60, int(seconds / 3600 + 0.5)
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{seconds // 3600 // 24 // 365} years"
