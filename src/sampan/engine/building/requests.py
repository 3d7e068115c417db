"""What the container of a step is made of."""

from __future__ import annotations

from typing import Any, Final

from sampan.engine.images.model import Image
from sampan.spec.build import Limits, RunStep
from sampan.spec.digest import Digest
from sampan.spec.docker.config import Config, DeviceRequest, HostConfig, LogConfig
from sampan.spec.docker.containers import CreateRequest
from sampan.spec.image import Healthcheck, ImageConfig, RootFS, RunConfig

LABEL: Final = "org.sampan.build"  # of the containers of steps: they go when the engine starts


def image_of(step: RunStep) -> Image:
    """Return the layers that a step sees as an image that says nothing else."""
    config = ImageConfig(
        architecture=step.architecture,
        os=step.os,
        variant=step.variant,
        config=RunConfig(),
        rootfs=RootFS(),
    )
    return Image("", config, (Digest(step.chain),) if step.chain else ())


def request_of(step: RunStep) -> CreateRequest:
    """Return what is asked of the engine for the container of a step."""
    config: dict[str, Any] = {name: getattr(Config(), name) for name in Config.__struct_fields__}
    config |= {
        "attach_stdout": True,
        "attach_stderr": True,
        "hostname": step.hostname,
        "cmd": step.command,
        "env": step.env,
        "user": step.user,
        "working_dir": step.working_dir,
        "labels": {LABEL: ""},
        "healthcheck": Healthcheck(test=["NONE"]),
    }
    host = _limited(step.limits)
    host.network_mode = step.network or "default"
    host.extra_hosts = step.extra_hosts or None
    host.security_opt = step.security_opt or None
    host.privileged = step.privileged
    if step.devices:
        host.device_requests = [DeviceRequest(driver="cdi", device_ids=step.devices)]
    host.log_config = LogConfig(type="none")
    host.mounts = step.mounts
    return CreateRequest(**config, host_config=host)


def _limited(limits: Limits) -> HostConfig:
    return HostConfig(
        memory=limits.memory,
        memory_swap=limits.memory_swap,
        cpu_shares=limits.cpu_shares,
        cpu_period=limits.cpu_period,
        cpu_quota=limits.cpu_quota,
        cpuset_cpus=limits.cpuset_cpus,
        cpuset_mems=limits.cpuset_mems,
        cgroup_parent=limits.cgroup_parent,
        shm_size=limits.shm_size,
        ulimits=limits.ulimits or None,
    )
