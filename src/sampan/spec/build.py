"""What builds and the engine tell each other: base images, steps that run, build requests.

Source: moby daemon/builder/backend (Options), api/types/build.
"""

from __future__ import annotations

import msgspec

from sampan.spec.docker.config import Mount, Ulimit
from sampan.spec.image import ImageConfig
from sampan.spec.loan import Loan


class Repository(msgspec.Struct, kw_only=True, frozen=True):
    """A place in a git repository."""

    url: str
    ref: str = ""  # branch, tag or commit; "" is the default branch
    folder: str = ""  # relative; "" is the root
    checksum: str = ""  # what the id of the commit begins with
    submodules: bool = True
    keep_git: bool = False  # have a `.git`, too


class BaseImage(msgspec.Struct, kw_only=True):
    """An image that a stage begins with."""

    id: str
    config: ImageConfig
    digest: str = ""  # of the manifest or index that its name means; "" if nobody knows one


class Limits(msgspec.Struct, kw_only=True):
    """What the containers of a build may use; 0 and "" are no limit."""

    memory: int = 0  # bytes
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cgroup_parent: str = ""
    shm_size: int = 0
    ulimits: list[Ulimit] = []


class OwnedFolder(msgspec.Struct, kw_only=True):
    """A folder of a step that gets an owner and a mode before it runs."""

    path: str
    mode: int
    uid: int
    gid: int


class FoundDevice(msgspec.Struct, kw_only=True):
    """A device that files of the host name."""

    name: str  # vendor.com/class=name
    auto_allow: bool = False  # the file says that every build may have it


class RunStep(msgspec.Struct, kw_only=True):
    """A command that is run in a container, on a state of the file system."""

    chain: str | None  # the layers that it sees; None for nothing
    architecture: str
    os: str
    variant: str = ""
    command: list[str]
    env: list[str]
    user: str = ""
    working_dir: str = ""
    network: str = ""
    hostname: str = ""  # "" is the id of the container
    extra_hosts: list[str] = []
    security_opt: list[str] = []
    privileged: bool = False
    devices: list[str] = []  # names that files of the host give them (CDI)
    mounts: list[Mount] = []
    folders: list[OwnedFolder] = []
    loan: Loan = msgspec.field(default_factory=Loan)
    limits: Limits = msgspec.field(default_factory=Limits)


class Ran(msgspec.Struct, kw_only=True):
    """What came of a step."""

    exit_code: int
    diff_id: str = ""  # of the layer with what it changed; "" if it changed nothing, or failed


class MountedCache(msgspec.Struct, kw_only=True, frozen=True):
    """A folder of `RUN --mount=type=cache`: a volume."""

    size: int  # bytes
    in_use: bool = False


class BuildOptions(msgspec.Struct, kw_only=True):
    """What a client asks for, but the context."""

    dockerfile: str = "Dockerfile"
    remote: str = ""
    tags: list[str] = []
    target: str = ""
    arguments: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    platform: str = ""
    no_cache: bool = False
    no_cache_stages: list[str] = []  # names of stages, lower case
    contexts: dict[str, str] = {}  # named build contexts: what each is, `kind:rest`
    pull: bool = False
    quiet: bool = False
    squash: bool = False
    keep_on_failure: bool = False  # the container of a step that failed
    network: str = ""
    hostname: str = ""  # "" is that of all builds
    scanned: bool = False  # by a generator of SBOMs, when it is built
    buildkit: bool = False  # the history has BuildKit's words, not those of the classic builder
    extra_hosts: list[str] = []
    security_opt: list[str] = []
    entitlements: list[str] = []  # that the client grants
    cache_from: list[str] = []
    limits: Limits = msgspec.field(default_factory=Limits)


class GCPolicy(msgspec.Struct, kw_only=True, frozen=True):
    """What is swept from the build cache by itself; see build.caching.pruning.PruneWish."""

    all: bool = False
    filters: tuple[str, ...] = ()
    keep_duration: int = 0  # nanoseconds
    reserved: int = 0  # bytes
    max_used: int = 0
    min_free: int = 0


class BuildCachePruneReport(msgspec.Struct, rename="pascal", kw_only=True):
    """The answer to POST /build/prune."""

    caches_deleted: list[str] | None = None
    space_reclaimed: int = 0
