"""Change limits, published ports and the restart policy of one or more containers."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag, hidden
from sampan.cli.containers.config import restart_policy
from sampan.cli.invocation import Exit
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [CONTAINER...]"
ALIASES = "container update, update"
OPERANDS = (1, None)


class Options:
    changed: set[str]
    blkio_weight: int = flag("", "Share of block I/O, 10 to 1000, 0 to disable", kind="uint16")
    cpu_period: int = flag("", "Period of the CPU quota in microseconds", kind="int")
    cpu_quota: int = flag("", "CPU time per period in microseconds", kind="int")
    cpu_rt_period: int = flag("", "Real-time period in microseconds", kind="int")
    cpu_rt_runtime: int = flag("", "Real-time per period in microseconds", kind="int")
    cpu_shares: int = flag("c", "Share of CPU (relative weight)", kind="int")
    cpus: int = flag("", "Number of CPUs", kind="decimal")
    cpuset_cpus: str = flag("", "CPUs that may be used (0-3, 0,1)", default="")
    cpuset_mems: str = flag("", "Memory nodes that may be used (0-3, 0,1)", default="")
    memory: int = flag("m", "Memory limit", kind="bytes")
    memory_reservation: int = flag("", "Memory that is kept under pressure", kind="bytes")
    memory_swap: int = flag("", "Limit of memory and swap together, -1 for none", kind="swap")
    pids_limit: int = flag("", "Number of processes (-1 for unlimited)", kind="int")
    publish_add: list[str] = flag(
        "", "Publish one more port, [ip:][host:]container[/proto]", kind="list"
    )
    publish_rm: list[str] = flag(
        "", "Take a published port back, [[ip:]host:]container[/proto]", kind="list"
    )
    restart: str = flag("", "When to start again after an exit", default="")
    kernel_memory = hidden("", "and no longer supported by the kernel", kind="bytes")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    if not options.changed:
        raise Exit(1, "you must provide one or more flags when using this command")
    changes = _changes(options)
    warnings: list[str] = []
    errors: list[str] = []
    for name in operands:
        try:
            warnings += cli.client.containers.update(name, changes).get("Warnings") or []
            cli.out.line(name)
        except SampanError as error:
            errors.append(str(error))
    if warnings:
        cli.out.line("\n".join(warnings))
    if errors:
        raise Exit(1, "\n".join(errors))
    return 0


def _changes(options: Options) -> dict[str, Any]:
    policy: dict[str, Any] = {"Name": "", "MaximumRetryCount": 0}
    if options.restart:
        policy = restart_policy(options.restart)
    ports: dict[str, Any] = {}
    if options.publish_add:
        from sampan.cli.containers.ports import bindings_of

        ports["PublishAdd"] = bindings_of(options.publish_add)
    if options.publish_rm:
        ports["PublishRemove"] = options.publish_rm
    return {
        **ports,
        "BlkioWeight": options.blkio_weight,
        "CpuPeriod": options.cpu_period,
        "CpuQuota": options.cpu_quota,
        "CpuRealtimePeriod": options.cpu_rt_period,
        "CpuRealtimeRuntime": options.cpu_rt_runtime,
        "CpuShares": options.cpu_shares,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "Memory": options.memory,
        "MemoryReservation": options.memory_reservation,
        "MemorySwap": options.memory_swap,
        "NanoCpus": options.cpus,
        "PidsLimit": options.pids_limit or None,
        "RestartPolicy": policy,
    }
