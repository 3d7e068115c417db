"""What can be created, and what Docker fills in."""

from __future__ import annotations

import pytest

from sampan.engine.oci.checks import adapt, check_create, validate_restart_policy
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import Config, DeviceRequest, HostConfig, RestartPolicy
from sampan.spec.docker.networks import PortBinding
from sampan.spec.image import Healthcheck


@pytest.mark.parametrize(
    ("config", "host", "sentence"),
    [
        (Config(working_dir="etc"), HostConfig(), "it needs to be an absolute path"),
        (Config(stop_signal="FOO"), HostConfig(), "invalid signal: FOO"),
        (Config(env=["=x"]), HostConfig(), "invalid environment variable: =x"),
        (Config(hostname="h" * 65), HostConfig(), "is too long (maximum 64 bytes)"),
        (Config(hostname="ü" * 33), HostConfig(), "is too long (maximum 64 bytes)"),
        (Config(domainname="d" * 65), HostConfig(), 'domainname "ddd'),
        (Config(hostname="a\n1.2.3.4 b"), HostConfig(), "invalid hostname format: 'a\\n1.2.3.4 b'"),
        (Config(domainname="a\0"), HostConfig(), "invalid domainname format: 'a\\x00'"),
        (
            Config(healthcheck=Healthcheck(test=["CMD", "x"], interval=10)),
            HostConfig(),
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        (
            Config(),
            HostConfig(auto_remove=True, restart_policy=RestartPolicy(name="always")),
            "can't create 'AutoRemove' container with restart policy",
        ),
        (Config(), HostConfig(binds=["/a:b"]), "mount path must be absolute"),
        (Config(), HostConfig(tmpfs={"relative": ""}), "mount path must be absolute"),
        (Config(), HostConfig(cap_drop=["NOPE"]), "invalid CapDrop: unknown capability"),
        (Config(), HostConfig(ipc_mode="odd"), "invalid IPC mode: odd"),
        (Config(), HostConfig(pid_mode="container:"), "invalid PID mode: container:"),
        (
            Config(hostname="h"),
            HostConfig(uts_mode="host"),
            "conflicting options: hostname and the UTS mode",
        ),
        (
            Config(hostname="h"),
            HostConfig(network_mode="container:other"),
            "conflicting options: hostname and the network mode",
        ),
        (Config(user="4294967296"), HostConfig(), "invalid --user '4294967296': uids and gids"),
        (Config(user="1:-1"), HostConfig(), "invalid --user '-1': uids and gids must be in range"),
        (Config(user="a\0b"), HostConfig(), "invalid --user 'a\\x00b'"),
        (Config(), HostConfig(group_add=["2147483648"]), "invalid --group-add '2147483648'"),
        (
            Config(),
            HostConfig(masked_paths=["/a\0"]),
            "invalid MaskedPaths '/a\\x00': contains NUL",
        ),
        (Config(), HostConfig(security_opt=["apparmor=\0"]), "contains NUL byte"),
        (Config(), HostConfig(shm_size=-1), "SHM size can not be less than 0"),
        (Config(), HostConfig(oom_score_adj=2000), "range for oom score adj is [-1000, 1000]"),
        (Config(), HostConfig(runtime="kata"), "unknown or invalid runtime name: kata"),
        (Config(exposed_ports={"80/quic": {}}), HostConfig(), "invalid port specification"),
        (
            Config(),
            HostConfig(port_bindings={"80/tcp": [PortBinding(host_port="99999")]}),
            'invalid port specification: "99999"',
        ),
        (
            Config(),
            HostConfig(device_requests=[DeviceRequest(capabilities=[["gpu"]])]),
            "could not select device driver",
        ),
    ],
)
def test_what_cannot_work_is_refused_when_the_container_is_made(
    config: Config, host: HostConfig, sentence: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_create(config, host)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("name", "count", "sentence"),
    [
        ("sometimes", 0, "unknown policy 'sometimes'"),
        ("always", 3, "can only be used with 'on-failure'"),
        ("on-failure", -1, "maximum retry count cannot be negative"),
    ],
)
def test_restart_policies_are_checked(name: str, count: int, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        validate_restart_policy(RestartPolicy(name=name, maximum_retry_count=count))
    assert sentence in str(refused.value)


def test_the_working_directory_is_cleaned() -> None:
    config = Config(working_dir="/a//b/../c/")
    check_create(config, HostConfig())
    assert config.working_dir == "/a/c"


def test_docker_s_defaults_are_filled_in() -> None:
    host = HostConfig(memory=64 << 20)
    adapt(host)
    assert host.memory_swap == 128 << 20
    assert host.shm_size == 64 << 20
    assert host.ipc_mode == "private"
    assert host.restart_policy.name == "no"
    assert host.network_mode == "bridge"
    assert "/proc/kcore" in (host.masked_paths or [])


def test_a_privileged_container_has_no_masked_paths() -> None:
    host = HostConfig(privileged=True)
    adapt(host)
    assert host.masked_paths is None
