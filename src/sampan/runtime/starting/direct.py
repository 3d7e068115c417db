"""The usual start: init is cloned from the caller into its namespaces and prepares itself.

One process is made instead of two, and nothing is copied twice: a fork of an interpreter costs
about 3 ms in all, most of it for pages that both sides touch afterwards.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from sampan.errors import SampanError
from sampan.linux import namespaces, seccomp
from sampan.linux.cgroups.cgroup import Entry
from sampan.linux.cgroups.hierarchy import detect, open_cgroup
from sampan.rpc import Fd
from sampan.runtime import state
from sampan.runtime.roots.options import BY_OWNER, CHOWN
from sampan.runtime.starting import channel as ch
from sampan.runtime.starting import init, prepare, supervise
from sampan.runtime.starting.channel import Channel
from sampan.runtime.starting.progress import Progress, as_sampan_error, clean_up, follow
from sampan.runtime.starting.requests import Launched, LaunchRequest
from sampan.spec.runtime import Hooks, Linux

#: Namespaces that are entered by children only, or that take our privileges.
FOREIGN = frozenset({"user", "pid"})


def is_possible(request: LaunchRequest) -> bool:
    """Tell whether nobody needs to stay outside while the container is prepared."""
    spec, linux = request.spec, request.spec.linux or Linux()
    return not (
        request.user_namespace is not None
        or FOREIGN.intersection(request.pull_in)
        or any(
            each.type == "user" or (each.type == "pid" and each.path) for each in linux.namespaces
        )
        or any(_is_id_mapped(mount.options) or mount.uid_mappings for mount in spec.mounts)
        or needs_supervisor(request)
    )


def needs_supervisor(request: LaunchRequest) -> bool:
    """Tell whether somebody has to stay outside until the program is executed."""
    spec, linux = request.spec, request.spec.linux or Linux()
    hooks = spec.hooks or Hooks()
    return bool(
        request.hold
        or request.console_socket
        or hooks.prestart
        or hooks.create_runtime
        or hooks.poststart
        or linux.time_offsets
        or (linux.seccomp and linux.seccomp.listener_path)
        or not namespaces.is_single_threaded()
        or _is_cgroup_taken(request.cgroup)
    )


def _is_cgroup_taken(path: str) -> bool:
    """Tell whether the cgroup exists already; init cannot see who is in it, the supervisor can."""
    return bool(path) and detect().version == 1 and open_cgroup(path).exists()


def _is_id_mapped(options: list[str]) -> bool:
    return any(each in ("idmap", "ridmap", BY_OWNER, CHOWN) for each in options)


class Direct:
    """A start whose only process is the one that executes the program."""

    def __init__(self, progress: Progress, channel: Channel, alive: int, cgroup: str) -> None:
        self._progress, self._channel, self._alive = progress, channel, alive
        self._cgroup = cgroup

    def fileno(self) -> int:
        """See `launch.Launching.fileno`."""
        return self._alive

    def finish(self) -> Launched:
        """See `launch.Launching.finish`."""
        os.read(self._alive, 1)  # ends with the execution, or with the process
        os.close(self._alive)
        progress = self._progress
        try:
            follow(progress, self._channel)
        except SampanError:
            clean_up(progress)
            for fd in (progress.pidfd, progress.master):
                if fd >= 0:
                    os.close(fd)
            _reap(progress.pid)
            raise
        finally:
            self._channel.close()
            for helper in progress.helpers:
                _reap(helper)
        return Launched(
            pid=progress.pid,
            pidfd=Fd(progress.pidfd),
            master=Fd(progress.master) if progress.master >= 0 else None,
            warnings=progress.warnings,
            cgroup=self._cgroup,
            started_at=time.time_ns(),
        )


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # somebody who waits for all children was faster


def launch(request: LaunchRequest, compiled: seccomp.Filter | None, warnings: list[str]) -> Direct:
    """Clone the init of a container; raises InvalidArgument."""
    plan = prepare.plan_namespaces(request)
    progress = Progress(warnings=list(warnings), filtered=compiled is not None)
    with attempt(request, progress, plan.late) as made:
        inside = made.entry.into if made.entry is not None else -1
        progress.pid, progress.pidfd = namespaces.clone3(plan.flags, inside)
        if progress.pid == 0:
            _prepare(request, compiled, plan, made)
    return Direct(progress, made.ours, made.alive, request.cgroup)


@dataclass(slots=True)
class Attempt:
    """What a caller and the process that it clones have in common."""

    ours: Channel
    theirs: Channel
    alive: int  # ends with the execution of the program, or with the process
    dead: int  # its other end, the process' own
    entry: Entry | None = None  # into the cgroup, where clone3 can enter one


@contextmanager
def attempt(
    request: LaunchRequest, progress: Progress, joins: list[tuple[int, int]]
) -> Iterator[Attempt]:
    """Have channel, pipe and cgroup for a clone; after a failure all that was made is gone.

    The clone itself must not leave the block. What is its own is closed for the caller at the end.
    """
    made = Attempt(*Channel.pair(), *os.pipe2(os.O_CLOEXEC))
    try:
        if detect().version == 2:  # clone3 enters the cgroup, so it has to be there
            made.entry = make_cgroup(request, progress)
        yield made
    except BaseException as error:
        clean_up(progress)
        made.ours.close()
        os.close(made.alive)
        raise as_sampan_error(error) from error
    finally:
        made.theirs.close()
        os.close(made.dead)
        if made.entry is not None:
            made.entry.close()
        prepare.close_joins(request, joins)


def make_cgroup(request: LaunchRequest, progress: Progress) -> Entry | None:
    """Make the cgroup of a container, and open what a process needs to enter it."""
    if not request.cgroup:
        return None
    linux = request.spec.linux or Linux()
    progress.cgroup = open_cgroup(request.cgroup)
    progress.warnings += progress.cgroup.create(linux.resources)
    progress.created = True
    return progress.cgroup.entry()


def _prepare(
    request: LaunchRequest,
    compiled: seccomp.Filter | None,
    plan: prepare.NamespacePlan,
    made: Attempt,
) -> NoReturn:
    """What runs first in the new process: it sees the files of the host still."""
    channel, entry = made.theirs, made.entry
    try:
        supervise.become_supervisor()
        if request.state_dir:
            state.claim(request.state_dir)
            channel.send(ch.CLAIMED, os.fsencode(request.state_dir))
        setup, warnings = prepare.setup(request, plan, compiled)
        setup.waits, setup.alive = False, made.dead
        setup.entry, setup.born_inside = entry, entry is not None and entry.into >= 0
        progress = Progress()
        if entry is None:
            setup.entry = make_cgroup(request, progress)
            if setup.entry is not None:
                channel.send(ch.CGROUP, os.fsencode(request.cgroup))
        supervise.show_cgroup(request, setup)
        wanted = request.spec.process
        if wanted is not None and wanted.oom_score_adj is not None:
            warnings += supervise.set_oom_score("self", wanted.oom_score_adj)
        for warning in warnings + progress.warnings:
            channel.send(ch.WARNING, warning.encode("utf-8", "replace"))
        if request.state_dir:  # our pid as the host's procfs, which we still have, tells it
            state.save(request, int(os.readlink("/proc/self")), time.time_ns())
    except BaseException as error:  # noqa: BLE001 - reported to the caller
        channel.fail(as_sampan_error(error))
        os._exit(1)
    init.run(setup, channel)
