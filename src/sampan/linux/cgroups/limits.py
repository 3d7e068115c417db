"""What writing limits has in common on both versions of cgroups."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from sampan.linux.cgroups.files import Directory
from sampan.spec.runtime import LinuxHugepageLimit, LinuxRdma


def missing(controller: str) -> str:
    """Return the warning for limits of a controller that is not mounted."""
    return f"the cgroup controller {controller} is not available here; its limits are discarded"


def discarded(name: str) -> str:
    """Return the warning for one limit that this kernel does not have."""
    return f"this kernel has no {name}; the limit is discarded"


def write(directory: Directory, name: str, value: str | int | None) -> list[str]:
    """Write a value if there is one; a missing file is a warning."""
    if value is None:
        return []
    try:
        directory.write(name, value)
    except FileNotFoundError:
        return [discarded(name)]
    return []


def check_usage(limit: int, usage: int) -> None:
    """Refuse a limit below what is used, as `checkBeforeUpdate` asks."""
    if 0 <= limit < usage:
        text = f"memory limit {limit} is below the current usage {usage}"
        raise OSError(errno.EBUSY, text, "memory.limit_in_bytes")


def settle(directory: Directory, values: Mapping[str, str | int | None]) -> list[str]:
    """Write values that constrain one another: in any order that the kernel accepts.

    A new period may be too short for the old quota and the new quota too long for the old
    period; so what is refused is tried again after the others went in.
    """
    warnings: list[str] = []
    waiting = {name: value for name, value in values.items() if value is not None}
    while waiting:
        refused: dict[str, str | int] = {}
        problem: OSError | None = None
        for name, value in waiting.items():
            try:
                directory.write(name, value)
            except FileNotFoundError:
                warnings.append(discarded(name))
            except OSError as failure:
                if failure.errno != errno.EINVAL:
                    raise
                refused[name], problem = value, problem or failure
        if problem is not None and len(refused) == len(waiting):
            raise problem
        waiting = refused
    return warnings


def page_size(limit: LinuxHugepageLimit) -> str:
    """Return a checked page size ("2MB"); it becomes part of a file name."""
    if not limit.page_size.isalnum():
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), f"hugetlb.{limit.page_size}")
    return limit.page_size


def rdma(directory: Directory, devices: Mapping[str, LinuxRdma]) -> None:
    """Limit RDMA devices; the file is the same in both versions."""
    for name, limit in devices.items():
        handles = "" if limit.hca_handles is None else f" hca_handle={limit.hca_handles}"
        objects = "" if limit.hca_objects is None else f" hca_object={limit.hca_objects}"
        directory.write("rdma.max", f"{name}{handles}{objects}")
