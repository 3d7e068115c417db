"""The start in a user namespace that exists: a sibling joins it and clones init into it.

What the root of such a namespace may not do is done before by that sibling, who is still root of
the host: cgroup, sources of binds, limits that are raised. It ends with the clone, so a start
costs one process more than the usual one (`direct.py`), and no supervisor waits for anything.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NoReturn

from sampan.linux import process, seccomp
from sampan.linux.namespaces import CLONE_PARENT, clone3
from sampan.runtime.roots import idmaps
from sampan.runtime.starting import channel as ch
from sampan.runtime.starting import direct, init, joining, prepare, supervise
from sampan.runtime.starting.progress import Progress, as_sampan_error
from sampan.runtime.starting.requests import LaunchRequest
from sampan.spec.runtime import Linux


def is_possible(request: LaunchRequest) -> bool:
    """Tell whether a user namespace is given, and nobody needs to stay outside of it."""
    linux = request.spec.linux or Linux()
    return (
        (request.user_namespace is not None or "user" in request.pull_in)
        and not request.state_dir
        and not any(each.type == "user" or each.path for each in linux.namespaces)
        and not direct.needs_supervisor(request)
    )


def launch(
    request: LaunchRequest, compiled: seccomp.Filter | None, warnings: list[str]
) -> direct.Direct:
    """Clone the process that makes the init of a container; raises InvalidArgument."""
    plan = prepare.plan_namespaces(request)
    progress = Progress(warnings=list(warnings))
    with direct.attempt(request, progress, plan.early + plan.late) as made:
        progress.pid, progress.pidfd = clone3(0)
        if progress.pid == 0:
            _prepare(request, compiled, plan, made)
    return direct.Direct(progress, made.ours, made.alive, request.cgroup)


def _prepare(
    request: LaunchRequest,
    compiled: seccomp.Filter | None,
    plan: prepare.NamespacePlan,
    made: direct.Attempt,
) -> NoReturn:
    """What runs in the sibling, as root of the host, until it joins."""
    channel = made.theirs
    try:
        supervise.become_supervisor()
        setup, warnings = prepare.setup(request, plan, compiled)
        setup.waits, setup.alive, setup.entry = False, made.dead, made.entry
        progress = Progress()
        if made.entry is None:
            setup.entry = direct.make_cgroup(request, progress)
            if setup.entry is not None:
                channel.send(ch.CGROUP, os.fsencode(request.cgroup))
        supervise.show_cgroup(request, setup)
        idmaps.open_sources(setup, request, private=True)
        _use_privileges(request, setup, warnings)
        for warning in warnings + progress.warnings:
            channel.send(ch.WARNING, warning.encode("utf-8", "replace"))
        joining.join_all(plan.early)
        pid, pidfd = clone3(plan.flags | CLONE_PARENT)
        if pid == 0:
            init.run(setup, channel)
        channel.send(ch.BORN, b"%d" % pid, pidfd)
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - reported to the caller
        channel.fail(as_sampan_error(error))
    finally:
        os._exit(1)


def _use_privileges(request: LaunchRequest, setup: init.Setup, warnings: list[str]) -> None:
    """Do what only root of the host may do to this process; init inherits it."""
    wanted = request.spec.process
    if wanted is not None and wanted.oom_score_adj is not None:
        warnings += supervise.set_oom_score("self", wanted.oom_score_adj)
    for number, _, hard in setup.program.rlimits:
        soft, most = process.prlimit(0, number)
        if hard > most:
            with suppress(OSError):  # init will say which
                process.prlimit(0, number, (soft, hard))
    maps = (request.spec.linux or Linux()).uid_mappings
    _delegate(setup, idmaps.host_id(maps, 0))
    if request.stdio is not None:
        idmaps.give_streams(request.stdio, idmaps.host_id(maps, setup.program.uid))


def _delegate(setup: init.Setup, owner: int) -> None:
    """Give a container that sees its control group writable what may be given away of it.

    It can make groups below then, and move its processes; limits stay the host's. Source:
    Documentation/admin-guide/cgroup-v2.rst, "Model of Delegation"; runc's cgroup ownership.
    """
    group = setup.cgroups.unified
    is_writable = any(
        mount.kind in ("cgroup", "cgroup2") and not mount.is_read_only for mount in setup.mounts
    )
    if not (group and setup.new_cgroup and is_writable) or owner < 0:
        return
    try:
        with open("/sys/kernel/cgroup/delegate", encoding="ascii") as file:
            names = file.read().split()
    except FileNotFoundError:  # before Linux 4.15
        names = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
    for path in (group, *(group + b"/" + name.encode() for name in names)):
        with suppress(FileNotFoundError):  # of a controller that is not in use
            os.chown(path, owner, -1)
