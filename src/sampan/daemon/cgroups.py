"""Who makes the control groups of containers, and below which parent."""

from __future__ import annotations

from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.flags import UsageError
from sampan.engine.oci.cgroup_placement import CgroupPlacement, Driver
from sampan.errors import InvalidArgument

DRIVERS: dict[str, Driver] = {"cgroupfs": "cgroupfs", "systemd": "systemd"}


def placement(config: Config) -> CgroupPlacement:
    """Return where the configuration puts control groups; raises UsageError.

    Source: moby daemon/daemon_unix.go getCD, verifyDaemonSettings.
    """
    driver: Driver = "cgroupfs"
    for option in config["exec-opt"]:
        key, _, value = option.partition("=")
        if key.strip().lower() != "native.cgroupdriver":
            raise UsageError(f"invalid --exec-opt {option}: only native.cgroupdriver is known")
        if value not in DRIVERS:
            raise UsageError(
                f"native.cgroupdriver option {value} not supported: only cgroupfs and systemd are"
            )
        driver = DRIVERS[value]
    if driver == "systemd":
        _need_systemd()
    found = CgroupPlacement(driver, config["cgroup-parent"])
    try:
        found.check(found.parent)
    except InvalidArgument as error:
        raise UsageError(str(error)) from error
    return found


def _need_systemd() -> None:
    from sampan.linux.cgroups import hierarchy, scopes

    if hierarchy.detect().version != 2 or not scopes.is_running():
        raise UsageError(
            "native.cgroupdriver=systemd needs systemd as process 1, and cgroup version 2 alone"
        )
