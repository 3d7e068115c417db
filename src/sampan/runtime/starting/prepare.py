"""From a specification to a `Setup`: everything checked, opened and encoded before the clone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sampan.errors import Conflict, InvalidArgument
from sampan.linux import namespaces, seccomp
from sampan.linux.cgroups.hierarchy import detect
from sampan.linux.namespaces import KINDS
from sampan.runtime import hooks
from sampan.runtime.confinement.sysctls import check_sysctls
from sampan.runtime.roots import devices, mounting, options
from sampan.runtime.roots.sharing import SHM, shared_memory
from sampan.runtime.starting import program
from sampan.runtime.starting.channel import reason
from sampan.runtime.starting.init import Setup
from sampan.runtime.starting.preparing import as_user
from sampan.spec.runtime import Hooks, Linux, LinuxIDMapping, LinuxNamespace, Process, State

if TYPE_CHECKING:
    from sampan.runtime.starting.requests import LaunchRequest

CLOCKS = ("monotonic", "boottime")


@dataclass(slots=True)
class NamespacePlan:
    """Which namespaces are made, and which are joined when."""

    flags: int = 0  # for clone3
    early: list[tuple[int, int]] = field(default_factory=list)  # joined before the clone
    late: list[tuple[int, int]] = field(default_factory=list)  # joined by init
    new: set[str] = field(default_factory=set)
    joined: set[str] = field(default_factory=set)

    @property
    def is_private_user(self) -> bool:
        """Tell whether the container is in a user namespace other than ours."""
        return "user" in self.new or "user" in self.joined


def plan_namespaces(request: LaunchRequest) -> NamespacePlan:
    """Open every namespace to be joined; raises InvalidArgument.

    Joined before the clone are those that only children enter (pid), and all of them if a user
    namespace takes our privileges away.
    """
    plan = NamespacePlan()
    joins: list[tuple[int, int]] = []
    try:
        for namespace in (request.spec.linux or Linux()).namespaces:
            _plan_namespace(request, namespace, plan, joins)
        _add_implied(request, plan, joins)
    except BaseException:
        close_joins(request, joins)
        raise
    for kind in plan.new - {"cgroup"}:  # that one is made after the cgroup was entered
        plan.flags |= KINDS[kind][0]
    split_joins(plan, joins)
    return plan


def close_joins(request: LaunchRequest, joins: list[tuple[int, int]]) -> None:
    """Close the descriptors of namespaces that were opened here; those of the request are lent."""
    for fd, _ in joins:
        if fd not in (request.network, request.user_namespace):
            os.close(fd)


def _plan_namespace(
    request: LaunchRequest,
    namespace: LinuxNamespace,
    plan: NamespacePlan,
    joins: list[tuple[int, int]],
) -> None:
    if namespace.type in plan.new or namespace.type in plan.joined:
        raise InvalidArgument(f"duplicated ns {namespace.type!r}")
    flag, name = KINDS[namespace.type]
    pid = request.pull_in.get(namespace.type)
    if pid is not None:
        joins.append((_open(f"/proc/{pid}/ns/{name}"), flag))
        still_runs(request, pid)
    elif namespace.type == "network" and request.network is not None:
        joins.append((request.network, flag))
    elif namespace.path:
        joins.append((_open(namespace.path), flag))
    else:
        plan.new.add(namespace.type)
        return
    plan.joined.add(namespace.type)


def _add_implied(request: LaunchRequest, plan: NamespacePlan, joins: list[tuple[int, int]]) -> None:
    named = plan.new | plan.joined
    if request.network is not None and "network" not in named:
        joins.append((request.network, namespaces.CLONE_NEWNET))
        plan.joined.add("network")
    if request.user_namespace is not None:
        joins.append((request.user_namespace, namespaces.CLONE_NEWUSER))
        plan.joined.add("user")
    for kind, pid in request.pull_in.items():
        if kind not in named:
            joins.append((_open(f"/proc/{pid}/ns/{KINDS[kind][1]}"), KINDS[kind][0]))
            still_runs(request, pid)
            plan.joined.add(kind)
    if "mount" not in plan.joined:
        plan.new.add("mount")  # without one, the container's mounts would be the host's


def split_joins(plan: NamespacePlan, joins: list[tuple[int, int]]) -> None:
    """Decide which namespaces are joined before the clone, and in which order."""
    before = {namespaces.CLONE_NEWPID, namespaces.CLONE_NEWUSER}
    if plan.is_private_user or any(flag in before for _, flag in joins):
        plan.early = [join for join in joins if join[1] != namespaces.CLONE_NEWNS]
        plan.late = [join for join in joins if join[1] == namespaces.CLONE_NEWNS]
    else:
        plan.late = joins


def still_runs(request: LaunchRequest, pid: int) -> None:
    """Raise Conflict if a container has ended from which something was just opened, by its pid.

    Then it may be of another process with that number: of one of the host.
    """
    pidfd = request.donors.get(pid, -1)
    if pidfd >= 0 and namespaces.wait_ended(pidfd, 0):
        raise Conflict("cannot join a namespace of a non running container")


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidArgument(f"lstat {path}: {reason(error)}") from None


def setup(
    request: LaunchRequest, plan: NamespacePlan, filter: seccomp.Filter | None
) -> tuple[Setup, list[str]]:
    """Return all that init needs, and warnings. The cgroup is filled in by the supervisor."""
    spec, linux = request.spec, request.spec.linux or Linux()
    if spec.process is None:
        raise InvalidArgument("process property must not be empty")
    prepared, warnings = program.prepare(
        _as_user(request, spec.process),
        filter=filter,
        personality=linux.personality,
        stdio=request.stdio,
        pass_fds=request.pass_fds,
        listen_fds=request.listen_fds,
    )
    warnings += _ignored(linux)
    root = request.root
    wanted = spec.hooks or Hooks()
    return Setup(
        id=request.id.encode(),
        entry=None,
        born_inside=False,
        waits="user" in plan.new or spec.process.oom_score_adj is not None,
        new_user=plan.is_private_user,
        new_cgroup="cgroup" in plan.new,
        joins=plan.late,
        loopback="network" in plan.new
        or (request.user_namespace is not None and "network" in plan.joined),
        root=root if isinstance(root, int) else os.fsencode(root),
        propagation=_propagation(linux.rootfs_propagation),
        mounts=plan_mounts(request, linux, plan),
        cgroups=mounting.CgroupView(),
        devices=devices.all_devices(linux.devices),
        bind_devices=plan.is_private_user,
        external_hooks=bool(wanted.prestart or wanted.create_runtime),
        create_container=hooks.prepare(wanted.create_container),
        start_container=hooks.prepare(wanted.start_container),
        state=hooks.encode_state(oci_state(request, "creating", 0)),
        no_pivot=request.no_pivot,
        read_only_root=bool(spec.root and spec.root.readonly),
        hostname=_name(spec.hostname, "hostname", plan),
        domainname=_name(spec.domainname, "domainname", plan),
        sysctls=check_sysctls(linux.sysctl, plan.new | plan.joined),
        read_only=[os.fsencode(path) for path in linux.readonly_paths],
        masked=[os.fsencode(path) for path in linux.masked_paths],
        program=prepared,
        fifo=-1,
    ), warnings


def _ignored(linux: Linux) -> Iterator[str]:
    """Yield sentences on what a specification asks for and nobody does here."""
    if linux.intel_rdt is not None:
        yield "intelRdt is not supported and was ignored"
    if linux.mount_label:
        yield f"mountLabel {linux.mount_label} is not supported and was ignored"
    if linux.net_devices:
        yield "netDevices is not supported and was ignored"


def _as_user(request: LaunchRequest, process: Process) -> Process:
    """Look the user up in the root: here, where hostile files cost nobody else's time."""
    if request.user is None:
        return process
    if isinstance(request.root, int):
        return as_user(process, request.user, request.groups, request.root)
    root = os.open(request.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return as_user(process, request.user, request.groups, root)
    finally:
        os.close(root)


def oci_state(request: LaunchRequest, status: str, pid: int) -> State:
    """Return the state document that hooks read."""
    return State(
        oci_version=request.spec.oci_version,
        id=request.id,
        status=status,  # type: ignore[arg-type]
        pid=pid,
        bundle=request.bundle,
        annotations=request.spec.annotations,
    )


def plan_mounts(request: LaunchRequest, linux: Linux, plan: NamespacePlan) -> list[options.Planned]:
    """Compile the mounts; relative sources of binds start at the bundle."""
    maps = (linux.uid_mappings, linux.gid_mappings)
    planned = []
    for mount in request.spec.mounts:
        if not mount.destination:
            raise InvalidArgument("a mount has no destination")
        if not mount.destination.startswith("/"):
            mount.destination = "/" + mount.destination
        if "\0" in mount.destination + mount.source:
            raise InvalidArgument(f"mount {mount.destination!r} contains a NUL byte")
        each = options.plan(mount, maps)
        each.more = request.sources.get(mount.destination, each.more)
        if each.kind == "bind" and not each.source.startswith(b"/"):
            if not each.source:
                raise InvalidArgument(f'bind mount "{mount.destination}" has no source')
            each.source = os.path.join(os.fsencode(request.bundle or "/"), each.source)
        if each.kind == "sysfs":  # refused in a user namespace without a network of its own
            each.host_copy = b"/sys"
        elif each.kind == "proc" and "pid" not in plan.new:  # the host's processes anyway
            each.host_copy = b"/proc"
        elif each.kind == "mqueue" and "ipc" not in plan.new | plan.joined:  # the host's queues
            each.of_host = True
        planned.append(each)
    if "ipc" in request.pull_in and not any(each.destination == SHM for each in planned):
        planned.append(shared_memory(request.pull_in["ipc"]))
        still_runs(request, request.pull_in["ipc"])
    return planned


def _propagation(value: str) -> str:
    if value and value not in options.PROPAGATION:
        raise InvalidArgument(f'rootfsPropagation="{value}" is not supported')
    return value


def _name(name: str, what: str, plan: NamespacePlan) -> bytes:
    if not name:
        return b""
    if "uts" not in plan.new and "uts" not in plan.joined:
        raise InvalidArgument(f"unable to set {what} without a private UTS namespace")
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) > 64 or b"\0" in encoded:
        raise InvalidArgument(f"sethostname: invalid {what} {name!r}")
    return encoded


def id_map(mappings: list[LinuxIDMapping]) -> bytes:
    """Return the content of a uid_map or gid_map."""
    return b"".join(b"%d %d %d\n" % (m.container_id, m.host_id, m.size) for m in mappings)


def time_offsets(linux: Linux) -> bytes:
    """Return the content of timens_offsets; raises InvalidArgument."""
    lines = []
    for clock, offset in linux.time_offsets.items():
        if clock not in CLOCKS:
            raise InvalidArgument(f'invalid time offset "{clock}"')
        lines.append(f"{clock} {offset.secs} {offset.nanosecs}\n")
    return "".join(lines).encode()


def cgroup_view(path: str, *, own_namespace: bool) -> mounting.CgroupView:
    """Return what a cgroup mount shows for the group `path` ("": that of the caller)."""
    host = detect()
    view = mounting.CgroupView(own_namespace=own_namespace)
    own = {} if path else own_groups()
    if host.version == 2:
        group = path or own.get("", "/")
        view.unified = os.fsencode(host.unified_mount.rstrip("/") + "/" + group.strip("/"))
        return view
    for mount, controllers, kind in host.mounts():
        names = [each.removeprefix("name=") for each in controllers]
        if kind == "cgroup2":
            group = path or own.get("", "/")
            name, data = "unified", ""
        else:
            group = path or own.get(controllers[0], "/")
            name, data = ",".join(names), ",".join(controllers)
            if any(each.startswith("name=") for each in controllers):
                data = "none," + data
        source = mount.rstrip("/") + "/" + group.strip("/")
        if os.path.isdir(source):
            encoded = (os.fsencode(name), os.fsencode(source), kind.encode(), os.fsencode(data))
            view.hierarchies.append(encoded)
            if len(names) > 1:
                view.links += [(os.fsencode(each), os.fsencode(name)) for each in names]
    return view


def own_groups() -> dict[str, str]:
    """Return the caller's cgroup path by controller ("" for the unified hierarchy)."""
    groups = {}
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            groups.update(dict.fromkeys(controllers.split(","), path))
    return groups
