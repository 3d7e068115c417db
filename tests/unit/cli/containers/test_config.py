"""From flags to the body of a create request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sampan.cli.arguments.flags import UsageError, parse
from sampan.cli.commands import run
from sampan.cli.containers.config import configuration
from sampan.errors import InvalidArgument


def body(*arguments: str) -> dict[str, Any]:
    parsed = parse(run.Options, [*arguments, "busybox", "true"], interspersed=False, own_h=True)
    image, *command = parsed.operands
    return configuration(parsed.options, image, command)


def host(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = body(*arguments)["HostConfig"]
    return found


def test_without_flags_the_defaults_are_docker_s() -> None:
    found = body()
    assert (found["Image"], found["Cmd"], found["Entrypoint"]) == ("busybox", ["true"], None)
    assert (found["AttachStdin"], found["AttachStdout"], found["AttachStderr"]) == (
        False,
        True,
        True,
    )
    assert found["HostConfig"]["NetworkMode"] == "default"
    assert found["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert found["HostConfig"]["MemorySwappiness"] == -1
    assert found["HostConfig"]["Dns"] == []
    assert "Init" not in found["HostConfig"]
    assert "StopTimeout" not in found


def test_every_resource_flag_reaches_its_field() -> None:
    found = host(
        *("--cpus=1.5", "-m", "64m", "--memory-swap=-1", "--pids-limit=7", "-c", "512"),
        *("--cpu-period=1", "--cpu-quota=2", "--cpuset-cpus=0", "--cpuset-mems=0"),
        *("--blkio-weight=10", "--ulimit", "nofile=5:6", "--ulimit=core=0", "--shm-size=1m"),
        *("--device-read-bps", "/dev/sda:1mb", "--device-write-iops", "/dev/sda:5"),
        *("--oom-score-adj=3", "--oom-kill-disable", "--memory-reservation=1g"),
    )
    assert (found["NanoCpus"], found["Memory"], found["MemorySwap"]) == (1500000000, 64 << 20, -1)
    assert (found["PidsLimit"], found["CpuShares"], found["CpuPeriod"]) == (7, 512, 1)
    assert found["Ulimits"] == [
        {"Name": "core", "Hard": 0, "Soft": 0},
        {"Name": "nofile", "Hard": 6, "Soft": 5},
    ]
    assert found["BlkioDeviceReadBps"] == [{"Path": "/dev/sda", "Rate": 1 << 20}]
    assert found["BlkioDeviceWriteIOps"] == [{"Path": "/dev/sda", "Rate": 5}]
    assert (found["ShmSize"], found["OomScoreAdj"], found["OomKillDisable"]) == (1 << 20, 3, True)


def test_devices_have_targets_and_permissions_or_names_of_cdi() -> None:
    found = host(
        *("--device", "/dev/a", "--device", "/dev/a:/dev/b:r", "--device", "/dev/a:rw"),
        *("--device", "vendor.com/gpu=0", "--gpus", 'device=1,"capabilities=a,b"'),
    )
    assert found["Devices"] == [
        {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rwm"},
        {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"},
        {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rw"},
    ]
    assert found["DeviceRequests"] == [
        {
            "Driver": "",
            "Count": 0,
            "DeviceIDs": ["1"],
            "Capabilities": [["a", "b", "gpu"]],
            "Options": {},
        },
        {"Driver": "cdi", "DeviceIDs": ["vendor.com/gpu=0"]},
    ]


def test_volumes_are_binds_or_anonymous() -> None:
    found = body("-v", "/a:/b:ro", "-v", "/c", "-v", "./x:/y", "--tmpfs", "/t:size=1m")
    assert found["HostConfig"]["Binds"] == ["/a:/b:ro", f"{Path('x').absolute()}:/y"]
    assert found["Volumes"] == {"/c": {}}
    assert found["HostConfig"]["Tmpfs"] == {"/t": "size=1m"}


def test_published_ports_are_exposed() -> None:
    found = body("-p", "8080:80", "--expose", "90-91")
    assert set(found["ExposedPorts"]) == {"80/tcp", "90/tcp", "91/tcp"}
    assert found["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}


def test_health_flags_make_a_healthcheck() -> None:
    found = body("--health-cmd=true", "--health-interval=10s", "--health-retries=2")
    assert found["Healthcheck"] == {
        "Test": ["CMD-SHELL", "true"],
        "Interval": 10**10,
        "Retries": 2,
    }
    assert body("--no-healthcheck")["Healthcheck"] == {"Test": ["NONE"]}


def test_interactive_stdin_ends_with_the_client() -> None:
    found = body("-i")
    assert (found["OpenStdin"], found["AttachStdin"], found["StdinOnce"]) == (True, True, True)
    found = body("-a", "STDIN", "-a", "stderr", "-i")
    assert (found["AttachStdout"], found["AttachStderr"]) == (False, True)


def test_an_empty_entrypoint_clears_the_image_s() -> None:
    assert body("--entrypoint=")["Entrypoint"] == [""]
    assert body("--entrypoint", "/bin/sh")["Entrypoint"] == ["/bin/sh"]


def test_a_variable_alone_takes_over_its_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIVEN", "1")
    monkeypatch.delenv("ABSENT", raising=False)
    file = tmp_path / "env"
    file.write_text("# note\n\nA=1\nGIVEN\nABSENT\n")
    assert body("-e", "GIVEN", "-e", "ABSENT", "-e", "X=y", "--env-file", str(file))["Env"] == [
        "A=1",
        "GIVEN=1",
        "GIVEN=1",
        "ABSENT",
        "X=y",
    ]


def test_a_seccomp_profile_is_read_here(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text('{\n "defaultAction": "SCMP_ACT_ALLOW"\n}')
    found = host("--security-opt", f"seccomp={profile}", "--security-opt", "systempaths=unconfined")
    assert found["SecurityOpt"] == [
        "seccomp=" + json.dumps({"defaultAction": "SCMP_ACT_ALLOW"}, separators=(",", ":"))
    ]
    assert (found["MaskedPaths"], found["ReadonlyPaths"]) == ([], [])


def test_networks_have_a_short_and_a_long_form() -> None:
    found = body("--network", "mine", "--network-alias", "db", "--ip", "10.0.0.2")
    assert found["HostConfig"]["NetworkMode"] == "mine"
    assert found["NetworkingConfig"]["EndpointsConfig"] == {
        "mine": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}, "Aliases": ["db"]}
    }
    found = body("--net", "name=mine,alias=a,alias=b,gw-priority=3")
    assert found["NetworkingConfig"]["EndpointsConfig"] == {
        "mine": {"Aliases": ["a", "b"], "GwPriority": 3}
    }
    assert body("--network=host")["NetworkingConfig"]["EndpointsConfig"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--restart=a:b"],
            "invalid restart policy format: maximum retry count must be an integer",
        ),
        (
            ["--rm", "--restart=always"],
            "conflicting options: cannot specify both --restart and --rm",
        ),
        (["--pid=x"], "--pid: invalid PID mode"),
        (["--uts=x"], "--uts: invalid UTS mode"),
        (["--cgroupns=x"], "--cgroupns: invalid CGROUP mode"),
        (["--memory-swappiness=101"], "invalid value: 101. Valid memory swappiness range is 0-100"),
        (
            ["--no-healthcheck", "--health-cmd=x"],
            "--no-healthcheck conflicts with --health-* options",
        ),
        (["--security-opt=x"], 'invalid --security-opt: "x"'),
        (["--storage-opt=x"], "invalid storage option"),
        (["--log-driver=none", "--log-opt=a=b"], "invalid logging opts for driver none"),
        (["--device=dev"], "dev is not an absolute path"),
        (["--device=/dev/a:/dev/b:x"], "bad mode specified: x"),
        (["--mac-address=x"], "x is not a valid mac address"),
        (
            ["--network-alias=x"],
            "network-scoped aliases are only supported for user-defined networks",
        ),
        (["--env-file=/nope"], "--env-file: open /nope: no such file or directory"),
        (["-v", ":/x"], "invalid spec: :/x: empty section between colons"),
    ],
)
def test_what_contradicts_itself_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        body(*arguments)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-a", "x"], "valid streams are STDIN, STDOUT and STDERR"),
        (["-e", "=x"], "invalid environment variable: =x"),
        (["-l", "=x"], "invalid label '=x': empty name"),
        (["--sysctl=foo.bar=1"], "sysctl 'foo.bar=1' is not allowed"),
        (["--dns=x"], "IP address is not correctly formatted: x"),
        (["--add-host=x"], 'bad format for add-host: "x"'),
        (["--add-host=x:y"], 'invalid IP address in add-host: "y"'),
        (["--ulimit=x=1"], "invalid ulimit type: x"),
        (
            ["--ulimit=core=2:1"],
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
        ),
        (["--blkio-weight-device=/dev/a:5"], "invalid weight for device: /dev/a:5"),
        (["--device-cgroup-rule=x"], "invalid device cgroup format 'x'"),
        (["--link=a:b:c"], "bad format for links: a:b:c"),
        (
            ["--gpus=x"],
            'invalid count (x): value must be either "all" or an integer: invalid syntax',
        ),
        (["--network=nome=x"], "invalid field key nome"),
    ],
)
def test_a_wrong_value_is_refused_when_it_is_parsed(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        body(*arguments)
    assert str(raised.value).endswith(f"flag: {message}")
