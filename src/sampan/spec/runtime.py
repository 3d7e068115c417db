"""The OCI runtime specification 1.2: config.json and state, as data.

Source: opencontainers/runtime-spec config.md, config-linux.md, runtime.md. Field names on the wire
are camelCase; unknown fields are ignored, as the specification demands of runtimes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sampan.spec.versions import OCI_VERSION


class _Struct(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    pass


# --- process ---------------------------------------------------------------------------------


class ConsoleSize(_Struct):
    """The initial size of the terminal, in characters."""

    height: int
    width: int


class User(_Struct):
    """Numeric identities of the process; all ids are inside the container's user namespace."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: list[int] = []
    username: str = ""  # Windows in the specification; kept so that nothing is lost


class Rlimit(_Struct):
    """One resource limit."""

    type: str  # RLIMIT_NOFILE
    soft: int
    hard: int


class LinuxCapabilities(_Struct):
    """The five capability sets, as CAP_ names."""

    bounding: list[str] = []
    effective: list[str] = []
    inheritable: list[str] = []
    permitted: list[str] = []
    ambient: list[str] = []


class Scheduler(_Struct):
    """sched_setattr(2)."""

    policy: str
    nice: int = 0
    priority: int = 0
    flags: list[str] = []
    runtime: int = 0
    deadline: int = 0
    period: int = 0


class IOPriority(_Struct):
    """ioprio_set(2)."""

    cls: str = msgspec.field(name="class")
    priority: int = 0


class ExecCPUAffinity(_Struct):
    """CPU lists for exec, before and after the cgroup is joined."""

    initial: str = ""
    final: str = ""


class Process(_Struct):
    """The program to execute and everything it inherits."""

    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = msgspec.field(default_factory=User)
    args: list[str] = []
    command_line: str = ""
    env: list[str] = []
    cwd: str = "/"
    capabilities: LinuxCapabilities | None = None
    rlimits: list[Rlimit] = []
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    oom_score_adj: int | None = None
    scheduler: Scheduler | None = None
    selinux_label: str = ""
    io_priority: IOPriority | None = None
    exec_cpu_affinity: ExecCPUAffinity | None = msgspec.field(default=None, name="execCPUAffinity")


# --- root and mounts -------------------------------------------------------------------------


class Root(_Struct):
    """The root file system, relative to the bundle."""

    path: str = "rootfs"
    readonly: bool = False


class LinuxIDMapping(_Struct):
    """One line of a uid_map or gid_map."""

    container_id: int = msgspec.field(name="containerID")
    host_id: int = msgspec.field(name="hostID")
    size: int = 1


class Mount(_Struct):
    """One mount of the container, with mount(8) options."""

    destination: str
    type: str = ""
    source: str = ""
    options: list[str] = []
    uid_mappings: list[LinuxIDMapping] = []
    gid_mappings: list[LinuxIDMapping] = []


# --- hooks -----------------------------------------------------------------------------------


class Hook(_Struct):
    """One program to run at a point of the life cycle; the state comes on its stdin."""

    path: str
    args: list[str] = []
    env: list[str] = []
    timeout: int | None = None  # seconds


class Hooks(_Struct):
    """All hooks, by the point at which they run."""

    prestart: list[Hook] = []
    create_runtime: list[Hook] = []
    create_container: list[Hook] = []
    start_container: list[Hook] = []
    poststart: list[Hook] = []
    poststop: list[Hook] = []


# --- resources -------------------------------------------------------------------------------


class LinuxDeviceCgroup(_Struct):
    """One rule of the device list; None for a number means all."""

    allow: bool = False
    type: str = "a"  # a, b or c
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


class LinuxMemory(_Struct):
    """Bytes; -1 means no limit."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None  # memory plus swap
    kernel: int | None = None
    kernel_tcp: int | None = msgspec.field(default=None, name="kernelTCP")
    swappiness: int | None = None
    disable_oom_killer: bool | None = msgspec.field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class LinuxCPU(_Struct):
    """Shares are relative (2..262144); quota, burst and period are microseconds."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class LinuxPids(_Struct):
    """Number of processes; 0 or -1 means no limit."""

    limit: int | None = None


class LinuxWeightDevice(_Struct):
    """Block I/O weight of one device (10..1000)."""

    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class LinuxThrottleDevice(_Struct):
    """Bytes or operations per second of one device."""

    major: int
    minor: int
    rate: int


class LinuxBlockIO(_Struct):
    """Block I/O weights and limits."""

    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: list[LinuxWeightDevice] = []
    throttle_read_bps_device: list[LinuxThrottleDevice] = []
    throttle_write_bps_device: list[LinuxThrottleDevice] = []
    throttle_read_iops_device: list[LinuxThrottleDevice] = msgspec.field(
        default_factory=list, name="throttleReadIOPSDevice"
    )
    throttle_write_iops_device: list[LinuxThrottleDevice] = msgspec.field(
        default_factory=list, name="throttleWriteIOPSDevice"
    )


class LinuxHugepageLimit(_Struct):
    """Bytes of huge pages of one size ("2MB", "1GB")."""

    page_size: str
    limit: int


class LinuxInterfacePriority(_Struct):
    """net_prio of one interface."""

    name: str
    priority: int


class LinuxNetwork(_Struct):
    """net_cls and net_prio (cgroup v1)."""

    class_id: int | None = msgspec.field(default=None, name="classID")
    priorities: list[LinuxInterfacePriority] = []


class LinuxRdma(_Struct):
    """Limits of one RDMA device."""

    hca_handles: int | None = None
    hca_objects: int | None = None


class LinuxResources(_Struct):
    """Limits of the container's cgroup."""

    devices: list[LinuxDeviceCgroup] = []
    memory: LinuxMemory | None = None
    cpu: LinuxCPU | None = None
    pids: LinuxPids | None = None
    block_io: LinuxBlockIO | None = msgspec.field(default=None, name="blockIO")
    hugepage_limits: list[LinuxHugepageLimit] = []
    network: LinuxNetwork | None = None
    rdma: dict[str, LinuxRdma] = {}
    unified: dict[str, str] = {}


# --- linux -----------------------------------------------------------------------------------


class LinuxNamespace(_Struct):
    """A namespace: a new one, or the one at `path`."""

    type: Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]
    path: str = ""


class LinuxDevice(_Struct):
    """A device node to make."""

    path: str
    type: str  # c, u, b or p
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class LinuxTimeOffset(_Struct):
    """Offset of a clock of a new time namespace."""

    secs: int = 0
    nanosecs: int = 0


class LinuxSeccompArg(_Struct):
    """A condition on one argument of a system call."""

    index: int
    value: int
    value_two: int = 0
    op: str = "SCMP_CMP_EQ"


class LinuxSyscall(_Struct):
    """What happens on some system calls."""

    names: list[str]
    action: str
    errno_ret: int | None = None
    args: list[LinuxSeccompArg] = []


class LinuxSeccomp(_Struct):
    """A seccomp filter."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: list[str] = []
    flags: list[str] = []
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: list[LinuxSyscall] = []


class LinuxIntelRdt(_Struct):
    """Intel resource director technology."""

    clos_id: str = msgspec.field(default="", name="closID")
    l3_cache_schema: str = msgspec.field(default="", name="l3CacheSchema")
    mem_bw_schema: str = ""
    schemata: list[str] = []
    enable_monitoring: bool = False


class LinuxPersonality(_Struct):
    """personality(2)."""

    domain: str
    flags: list[str] = []


class Linux(_Struct):
    """All that is particular to Linux."""

    uid_mappings: list[LinuxIDMapping] = []
    gid_mappings: list[LinuxIDMapping] = []
    sysctl: dict[str, str] = {}
    resources: LinuxResources | None = None
    cgroups_path: str = ""
    namespaces: list[LinuxNamespace] = []
    devices: list[LinuxDevice] = []
    net_devices: dict[str, dict[str, str]] = {}
    seccomp: LinuxSeccomp | None = None
    rootfs_propagation: str = ""
    masked_paths: list[str] = []
    readonly_paths: list[str] = []
    mount_label: str = ""
    intel_rdt: LinuxIntelRdt | None = None
    personality: LinuxPersonality | None = None
    time_offsets: dict[str, LinuxTimeOffset] = {}


class Spec(_Struct):
    """config.json."""

    oci_version: str = OCI_VERSION
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: list[Mount] = []
    hooks: Hooks | None = None
    annotations: dict[str, str] = {}
    linux: Linux | None = None


class State(msgspec.Struct, rename="camel", kw_only=True):
    """What `state` prints and hooks read."""

    oci_version: str
    id: str
    status: Literal["creating", "created", "running", "paused", "stopped"]
    pid: int = 0
    bundle: str
    annotations: dict[str, str] = {}


def parse(document: bytes | str) -> Spec:
    """Parse config.json; raises msgspec.DecodeError or msgspec.ValidationError."""
    return msgspec.json.decode(document, type=Spec)
