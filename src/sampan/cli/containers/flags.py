"""The flags that `run` and `create` share: all of Docker's, with its checks."""

from __future__ import annotations

import os

from sampan.cli.arguments.flags import flag, hidden
from sampan.cli.containers import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ContainerOptions:
    """What a new container shall be; `changed` has the names of the flags that were given."""

    changed: set[str]

    # Process
    attach: list[str] = flag(
        "a", "Connect to STDIN, STDOUT or STDERR", kind="list", check=checks.attach
    )
    entrypoint: str = flag("", "Program to run instead of the image's ENTRYPOINT", default="")
    env: list[str] = flag(
        "e", "Set a variable; NAME alone takes over its value", kind="list", check=checks.env
    )
    env_file: list[str] = flag("", "Read variables from a file", kind="list")
    group_add: list[str] = flag("", "Supplementary group of the process", kind="list")
    init: bool = flag("", "Run an init as process 1, which reaps children and forwards signals")
    interactive: bool = flag("i", "Keep STDIN open")
    oom_score_adj: int = flag("", "Adjust the OOM killer's choice (-1000 to 1000)", kind="int")
    stop_signal: str = flag("", "Signal that asks the process to stop", default="")
    stop_timeout: int = flag("", "Seconds before a stop becomes a kill", kind="int")
    tty: bool = flag("t", "Allocate a terminal")
    ulimit: dict[str, Any] = flag(
        "", "Resource limit, name=soft[:hard]", kind="ulimit", default={}, check=checks.ulimit
    )
    user: str = flag("u", "User and group (name|uid[:group|gid])", default="")
    workdir: str = flag("w", "Working directory inside the container", default="")

    # The object
    annotation: dict[str, str] = flag("", "Annotation handed to the OCI runtime", kind="map")
    cidfile: str = flag("", "File that receives the id", default="")
    label: list[str] = flag("l", "Label of the container", kind="list", check=checks.label)
    label_file: list[str] = flag("", "Read labels from a file", kind="list")
    name: str = flag("", "Name of the container", default="")
    platform: str = flag(
        "",
        "Platform of the image, os[/arch[/variant]]",
        default=os.environ.get("DOCKER_DEFAULT_PLATFORM", ""),
    )
    pull: str = flag("", "When to pull the image: always, missing or never", default="missing")
    quiet: bool = flag("q", "Do not show how the pull goes on")
    restart: str = flag(
        "", "When to start again: no, on-failure[:n], always, unless-stopped", default="no"
    )
    rm: bool = flag("", "Remove the container and its anonymous volumes when it exits")
    runtime: str = flag("", "OCI runtime", default="")
    use_api_socket: bool = flag("", "Mount the daemon's socket into the container")

    # Security
    cap_add: list[str] = flag("", "Give a capability", kind="list")
    cap_drop: list[str] = flag("", "Take a capability away", kind="list")
    privileged: bool = flag("", "Give all capabilities and devices, and lift all restrictions")
    read_only: bool = flag("", "Mount the root file system read-only")
    security_opt: list[str] = flag("", "Security option", kind="list")
    sysctl: dict[str, str] = flag("", "Kernel parameter", kind="map", check=checks.sysctl)

    # Namespaces
    cgroup_parent: str = flag("", "Parent of the container's cgroup", default="")
    cgroupns: str = flag(
        "",
        "Cgroup namespace: 'host', 'private', or '' for the\ndaemon's default",
        default="",
    )
    domainname: str = flag("", "NIS domain name", default="")
    hostname: str = flag("h", "Host name", default="")
    ipc: str = flag("", "IPC namespace", default="")
    isolation: str = flag("", "Isolation technology", default="")
    pid: str = flag("", "PID namespace", default="")
    userns: str = flag("", "User namespace: host or auto", default="")
    uts: str = flag("", "UTS namespace", default="")

    # Network
    add_host: list[str] = flag(
        "", "Line for /etc/hosts (host:ip)", kind="list", check=checks.extra_host
    )
    dns: list[str] = flag("", "Name server", kind="list", check=checks.ip_address)
    dns_option: list[str] = flag("", "Option of the resolver", kind="list")
    dns_search: list[str] = flag("", "Search domain", kind="list", check=checks.dns_search)
    expose: list[str] = flag("", "Port or range that the container listens on", kind="list")
    ip: str = flag("", "IPv4 address (e.g., 172.30.100.104)", kind="ip")
    ip6: str = flag("", "IPv6 address (e.g., 2001:db8::33)", kind="ip")
    link: list[str] = flag("", "Link to another container", kind="list", check=checks.link)
    link_local_ip: list[str] = flag("", "Link-local address", kind="list")
    mac_address: str = flag("", "MAC address (e.g., 92:d0:c6:0a:29:33)", default="")
    network: list[dict[str, Any]] = flag(
        "", "Network to join", kind="network", check=checks.network
    )
    network_alias: list[str] = flag("", "Further name on the network", kind="list")
    publish: list[str] = flag("p", "Publish a port, [ip:][host:]container[/proto]", kind="list")
    publish_all: bool = flag("P", "Publish every exposed port on a free one")
    dns_opt = hidden("dns_option")
    net = hidden("network", kind="network", check=checks.network)
    net_alias = hidden("network_alias")

    # Files and logs
    log_driver: str = flag("", "Log driver", default="")
    log_opt: list[str] = flag("", "Option of the log driver", kind="list")
    mount: list[dict[str, Any]] = flag(
        "", "Mount a file system, type=…,src=…,dst=…", kind="mount", check=checks.mount
    )
    shm_size: int = flag("", "Size of /dev/shm", kind="bytes")
    storage_opt: list[str] = flag("", "Option of the storage driver", kind="list")
    tmpfs: list[str] = flag("", "Mount a tmpfs, path[:options]", kind="list")
    volume: list[str] = flag("v", "Mount a path or a volume, src:dst[:options]", kind="list")
    volume_driver: str = flag("", "Driver of new volumes", default="")
    volumes_from: list[str] = flag("", "Take over a container's volumes", kind="list")

    # Health
    health_cmd: str = flag("", "Command that checks the health", default="")
    health_interval: int = flag("", "Time between checks (ms|s|m|h)", kind="duration")
    health_retries: int = flag("", "Failures in a row that mean unhealthy", kind="int")
    health_start_interval: int = flag(
        "", "Time between checks in the start period (ms|s|m|h)", kind="duration"
    )
    health_start_period: int = flag(
        "", "Time in which failures do not count (ms|s|m|h)", kind="duration"
    )
    health_timeout: int = flag("", "Longest time of one check (ms|s|m|h)", kind="duration")
    no_healthcheck: bool = flag("", "Switch the image's HEALTHCHECK off")

    # Resources
    blkio_weight: int = flag("", "Share of block I/O, 10 to 1000, 0 to disable", kind="uint16")
    blkio_weight_device: list[dict[str, Any]] = flag(
        "", "Share of block I/O on a device, path:weight", kind="list", check=checks.weight_device
    )
    cpu_count: int = hidden("", kind="int")  # Windows only
    cpu_percent: int = hidden("", kind="int")  # Windows only
    cpu_period: int = flag("", "Period of the CPU quota in microseconds", kind="int")
    cpu_quota: int = flag("", "CPU time per period in microseconds", kind="int")
    cpu_rt_period: int = flag("", "Real-time period in microseconds", kind="int")
    cpu_rt_runtime: int = flag("", "Real-time per period in microseconds", kind="int")
    cpu_shares: int = flag("c", "Share of CPU (relative weight)", kind="int")
    cpus: int = flag("", "Number of CPUs", kind="decimal")
    cpuset_cpus: str = flag("", "CPUs that may be used (0-3, 0,1)", default="")
    cpuset_mems: str = flag("", "Memory nodes that may be used (0-3, 0,1)", default="")
    device: list[str] = flag("", "Give a device of the host, path[:path[:rwm]]", kind="list")
    device_cgroup_rule: list[str] = flag(
        "", "Allow devices, 'type major:minor rwm'", kind="list", check=checks.device_rule
    )
    device_read_bps: list[dict[str, Any]] = flag(
        "", "Bytes per second read from a device", kind="list", check=checks.throttle_bytes
    )
    device_read_iops: list[dict[str, Any]] = flag(
        "", "Reads per second from a device", kind="list", check=checks.throttle_operations
    )
    device_write_bps: list[dict[str, Any]] = flag(
        "", "Bytes per second written to a device", kind="list", check=checks.throttle_bytes
    )
    device_write_iops: list[dict[str, Any]] = flag(
        "", "Writes per second to a device", kind="list", check=checks.throttle_operations
    )
    gpus: list[dict[str, Any]] = flag(
        "", "GPUs for the container ('all', or a number)", kind="gpu-request", check=checks.gpus
    )
    io_maxbandwidth: int = hidden("", kind="bytes")  # Windows only
    io_maxiops: int = hidden("", kind="uint64")  # Windows only
    memory: int = flag("m", "Memory limit", kind="bytes")
    memory_reservation: int = flag("", "Memory that is kept under pressure", kind="bytes")
    memory_swap: int = flag("", "Limit of memory and swap together, -1 for none", kind="swap")
    memory_swappiness: int = flag("", "Swappiness (0 to 100)", kind="int", default=-1)
    oom_kill_disable: bool = flag("", "Disable the OOM killer")
    pids_limit: int = flag("", "Number of processes (-1 for unlimited)", kind="int")
    kernel_memory = hidden("", "and no longer supported by the kernel", kind="bytes")
    disable_content_trust: bool = hidden("", kind="bool", default=True)
