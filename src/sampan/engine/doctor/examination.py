"""What this host lacks for containers, what will not work because of it, and how to get it.

The judgements are pure functions of `Probes`; `host_probes` asks the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sampan.engine.doctor.findings import Finding, as_json, as_text, exit_code
from sampan.engine.doctor.host_probes import HostProbes, existing_folder
from sampan.engine.doctor.kernel import (
    cgroups,
    id_mapped_mounts,
    kernel,
    mandatory_access,
    namespaces,
    privileges,
    seccomp,
)
from sampan.engine.doctor.networking import firewall, forwarding, ipv6, links
from sampan.engine.doctor.probes import Probes
from sampan.engine.doctor.storage import disk, files, storage, storage_drivers
from sampan.storage.driver_names import NAMES

Check = Callable[[Probes], Finding]

CHECKS: Final[tuple[Check, ...]] = (
    privileges,
    kernel,
    namespaces,
    cgroups,
    seccomp,
    mandatory_access,
    id_mapped_mounts,
    links,
    firewall,
    forwarding,
    ipv6,
    files,
)


def examine(probes: Probes, data_root: str) -> list[Finding]:
    """Return all findings, in the order in which they are shown."""
    found = [check(probes) for check in CHECKS]
    return [*found, storage(probes, data_root), disk(probes, data_root)]


def _tried_drivers(data_root: str) -> dict[str, str]:
    """Try every storage driver where the data root is, or will be."""
    from sampan.storage.choosing import usable  # the daemon itself has no use for it

    try:
        return usable(existing_folder(data_root))
    except OSError as error:
        return dict.fromkeys(NAMES, f"{error.strerror}: {error.filename}")


def diagnose(data_root: str, *, for_programs: bool = False) -> tuple[bytes, int]:
    """Examine this host; return what `sampan doctor` prints and its exit code."""
    findings = examine(HostProbes(), data_root)
    findings.append(storage_drivers(_tried_drivers(data_root)))
    shown = as_json(findings) if for_programs else as_text(findings).encode()
    return shown, exit_code(findings)
