"""How a process ended, asked of the kernel by its pidfd, by the parent or by anybody else."""

from __future__ import annotations

import os
import time

from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.linux.namespaces import pidfd_exit_status
from sampan.runtime.spawning.tasks import Task


def waited(pidfd: int) -> int | None:
    """Return the exit code of an ended child without reaping it, None while it runs.

    Raises ChildProcessError if it is nobody of ours.
    """
    info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if info is None else code(info)


def code(info: os.waitid_result) -> int:
    """Return the exit code as a shell counts it: 128 and the signal for a killed process."""
    return info.si_status if info.si_code == os.CLD_EXITED else 128 + info.si_status


def reap(pidfd: int) -> None:
    """Let the kernel forget an ended child."""
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        pass


def told_by_kernel(pidfd: int) -> int | None:
    """Return the exit code of a process that somebody else has reaped; None if it is not known."""
    status = pidfd_exit_status(pidfd)
    if status is None:
        return None
    result = os.waitstatus_to_exitcode(status)
    return result if result >= 0 else 128 - result


def conclude(task: Task, exit_code: int | None) -> None:
    """Enter the end into the record, with what the memory limit did."""
    record = task.record
    record.finished_at = time.time_ns()
    record.exit_code = exit_code
    record.frozen = False
    if record.exec_id or not record.cgroup:
        return
    try:
        cgroup = open_cgroup(record.cgroup)
        record.oom_killed = cgroup.oom_kills() > 0
        if record.shares_pids:
            cgroup.kill()  # what it started would go on with nobody to stop it
    except OSError:
        pass  # the cgroup is gone: so are its processes
