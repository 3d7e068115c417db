"""Every limit of a container, flag by flag: the kernel is asked, outside and inside.

The same tables run on cgroup v1 and v2; a value of None means that the version has no such limit,
which the user is told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cgroup_files import UNIFIED, CgroupFiles, disk
from tests.daemon import Daemon
from tests.inside import Seen, body, execute, run, started
from tests.session import eventually, unique

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]
MIB = 1 << 20
DISK, NUMBERS = disk()
READ, WRITE = 100 * MIB, 200 * MIB  # small rates would hold up the end of a killed program
ALL = {
    "Memory": 64 * MIB,
    "MemorySwap": 100 * MIB,
    "MemoryReservation": 32 * MIB,
    "MemorySwappiness": 10,
    "CpuShares": 512,
    "CpuPeriod": 50000,
    "CpuQuota": 20000,
    "CpusetCpus": "1",
    "CpusetMems": "0",
    "PidsLimit": 20,
    "OomScoreAdj": 500,
    "BlkioDeviceReadBps": [{"Path": DISK, "Rate": READ}],
    "BlkioDeviceWriteBps": [{"Path": DISK, "Rate": WRITE}],
    "BlkioDeviceReadIOps": [{"Path": DISK, "Rate": 1000}],
    "BlkioDeviceWriteIOps": [{"Path": DISK, "Rate": 2000}],
    "ShmSize": 32 * MIB,
    "Ulimits": [
        {"Name": "nofile", "Soft": 100, "Hard": 200},
        {"Name": "core", "Soft": 0, "Hard": 0},
    ],
    "Sysctls": {"net.core.somaxconn": "111", "kernel.msgmax": "7000", "fs.mqueue.msg_max": "20"},
}
# flag → file and content on cgroup v1, and on v2
FILES: dict[str, tuple[tuple[str, str], tuple[str, str] | None]] = {
    "memory": (("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")),
    "memory-swap": (("memory.memsw.limit_in_bytes", "104857600"), ("memory.swap.max", "37748736")),
    "memory-reservation": (
        ("memory.soft_limit_in_bytes", "33554432"),
        ("memory.low", "33554432"),
    ),
    "memory-swappiness": (("memory.swappiness", "10"), None),
    "cpu-shares": (("cpu.shares", "512"), ("cpu.weight", "59")),
    "cpu-quota": (("cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000")),
    "cpu-period": (("cpu.cfs_period_us", "50000"), ("cpu.max", "20000 50000")),
    "cpuset-cpus": (("cpuset.cpus", "1"), ("cpuset.cpus", "1")),
    "cpuset-mems": (("cpuset.mems", "0"), ("cpuset.mems", "0")),
    "pids-limit": (("pids.max", "20"), ("pids.max", "20")),
    "device-read-bps": (
        ("blkio.throttle.read_bps_device", f"{NUMBERS} {READ}"),
        ("io.max", f"{NUMBERS} rbps={READ} wbps={WRITE} riops=1000 wiops=2000"),
    ),
    "device-write-bps": (
        ("blkio.throttle.write_bps_device", f"{NUMBERS} {WRITE}"),
        ("io.max", f"{NUMBERS} rbps={READ} wbps={WRITE} riops=1000 wiops=2000"),
    ),
    "device-read-iops": (
        ("blkio.throttle.read_iops_device", f"{NUMBERS} 1000"),
        ("io.max", f"{NUMBERS} rbps={READ} wbps={WRITE} riops=1000 wiops=2000"),
    ),
    "device-write-iops": (
        ("blkio.throttle.write_iops_device", f"{NUMBERS} 2000"),
        ("io.max", f"{NUMBERS} rbps={READ} wbps={WRITE} riops=1000 wiops=2000"),
    ),
}
# flag → what a program inside sees
INSIDE = {
    "oom-score-adj": ("cat /proc/self/oom_score_adj", "500"),
    "shm-size": ("df -k /dev/shm | tail -n 1 | awk '{print $2}'", "32768"),
    "ulimit nofile": ("echo $(ulimit -n) $(ulimit -Hn)", "100 200"),
    "ulimit core": ("ulimit -c", "0"),
    "sysctl of the network": ("cat /proc/sys/net/core/somaxconn", "111"),
    "sysctl of messages": ("cat /proc/sys/kernel/msgmax", "7000"),
    "sysctl of queues": ("cat /proc/sys/fs/mqueue/msg_max", "20"),
}


@dataclass(frozen=True)
class Limited:
    """A container with every limit at once, and what its creation warned of."""

    files: dict[str, str]
    warnings: list[str]
    says: dict[str, str]
    host_config: dict[str, Any]


@pytest.fixture(scope="module")
def limited(shared_daemon: Daemon) -> Limited:
    """One container for the whole table."""
    shared_daemon.import_image()
    request = body("sleep 1000", **ALL)
    made = shared_daemon.request("POST", "/containers/create", request).json
    container = made["Id"]
    try:
        answer = shared_daemon.request("POST", f"/containers/{container}/start")
        assert answer.status == 204, answer.body
        scripts = [f'echo "$({script})"' for script, _ in INSIDE.values()]
        seen = execute(shared_daemon, container, "; ".join(scripts))
        says = dict(zip(INSIDE, seen.lines, strict=True))
        names = {places[UNIFIED][0] for places in FILES.values() if places[UNIFIED]}
        files = {name: CgroupFiles(container).read(name) for name in names}
        shown = shared_daemon.request("GET", f"/containers/{container}/json").json
        return Limited(files, made["Warnings"], says, shown["HostConfig"])
    finally:
        removed = shared_daemon.request("DELETE", f"/containers/{container}?force=1")
        assert removed.status == 204, removed.body


@pytest.mark.parametrize("flag", FILES)
def test_a_limit_is_what_the_kernel_enforces(limited: Limited, flag: str) -> None:
    expected = FILES[flag][UNIFIED]
    if expected is None:
        assert any(flag.replace("-", " ") in warning for warning in limited.warnings)
    else:
        name, content = expected
        assert limited.files[name] == content


@pytest.mark.parametrize("flag", INSIDE)
def test_a_limit_is_what_a_program_sees(limited: Limited, flag: str) -> None:
    assert limited.says[flag] == INSIDE[flag][1]


def test_nothing_is_discarded_without_a_word(limited: Limited) -> None:
    """What inspect shows is what is enforced; what is not, is null there and in a warning."""
    changed = {name for name, value in ALL.items() if limited.host_config[name] != value}
    assert changed == ({"MemorySwappiness"} if UNIFIED else set())
    assert len(limited.warnings) == len(changed)


CPU = "cpu.max" if UNIFIED else "cpu.cfs_quota_us"
WEIGHT = "io.weight" if UNIFIED else "blkio.bfq.weight"  # 10..1000, on version 2 1..10000
SWAP = "memory.swap.max" if UNIFIED else "memory.memsw.limit_in_bytes"


@pytest.mark.parametrize(
    ("fields", "file", "content"),
    [
        ({"NanoCpus": 500_000_000}, CPU, "50000 100000" if UNIFIED else "50000"),
        ({"BlkioWeight": 300}, WEIGHT, "default 2930" if UNIFIED else "300"),
        ({"PidsLimit": -1}, "pids.max", "max"),
        ({"PidsLimit": 0}, "pids.max", "max"),
        ({"Memory": 64 * MIB}, SWAP, "67108864" if UNIFIED else "134217728"),
        ({"Memory": 64 * MIB, "MemorySwap": -1}, SWAP, "max" if UNIFIED else "9223372036854771712"),
    ],
)
def test_a_limit_alone(daemon: Daemon, fields: dict[str, Any], file: str, content: str) -> None:
    with started(daemon, "sleep 1000", **fields) as container:
        assert CgroupFiles(container).read(file) == content


@pytest.mark.skipif(UNIFIED, reason="cgroup v2 has no such limits; they are warned of")
@pytest.mark.parametrize(
    ("fields", "file", "content"),
    [
        ({"OomKillDisable": True, "Memory": 64 * MIB}, "memory.oom_control", "oom_kill_disable 1"),
        ({"KernelMemoryTCP": 8 * MIB}, "memory.kmem.tcp.limit_in_bytes", "8388608"),
    ],
)
def test_a_limit_of_version_1(
    daemon: Daemon, fields: dict[str, Any], file: str, content: str
) -> None:
    with started(daemon, "sleep 1000", **fields) as container:
        assert CgroupFiles(container).read(file).startswith(content)


@pytest.mark.kernel("cgroup2")
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"OomKillDisable": True}, "Your kernel does not support OomKillDisable."),
        ({"MemorySwappiness": 10}, "Your kernel does not support memory swappiness capabilities"),
        ({"KernelMemoryTCP": MIB}, "Your kernel does not support kernel memory TCP limit"),
    ],
)
def test_what_version_2_lacks_is_said(
    daemon: Daemon, fields: dict[str, Any], sentence: str
) -> None:
    answer = daemon.request("POST", "/containers/create", body("true", **fields))
    assert answer.status == 201
    (warning,) = answer.json["Warnings"]
    assert warning.startswith(sentence)


def test_info_says_what_can_be_limited(daemon: Daemon) -> None:
    info = daemon.request("GET", "/info").json
    always = {"MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet"}
    assert {name for name in (*always, "PidsLimit") if not info[name]} == set()
    tcp = Path("/sys/fs/cgroup/memory/memory.kmem.tcp.limit_in_bytes").exists()
    assert (info["OomKillDisable"], info["KernelMemoryTCP"]) == (not UNIFIED, tcp)
    assert info["CgroupVersion"] == ("2" if UNIFIED else "1")


@pytest.mark.skipif(
    not Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists(),
    reason="this kernel has no real-time groups: such limits are refused",
)
def test_real_time_is_taken_from_what_the_parent_was_given(daemon: Daemon) -> None:
    wanted = {"CpuRealtimePeriod": 1_000_000, "CpuRealtimeRuntime": 2000}
    parent = Path("/sys/fs/cgroup/cpu", unique())
    parent.mkdir()
    try:
        (parent / "cpu.rt_runtime_us").write_text("5000")
        with started(daemon, "sleep 1000", CgroupParent=parent.name, **wanted) as container:
            files = CgroupFiles(container, parent.name)
            assert (files.read("cpu.rt_runtime_us"), files.read("cpu.rt_period_us")) == (
                "2000",
                "1000000",
            )
    finally:
        for folder in Path("/sys/fs/cgroup").glob(f"*/{parent.name}"):
            folder.rmdir()


# --- bad input -----------------------------------------------------------------------------------

NONE = "/dev/no-such-device"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"Memory": 5 * MIB}, "Minimum memory limit allowed is 6MB"),
    ({"Memory": -5}, "Minimum memory limit allowed is 6MB"),
    (
        {"Memory": 64 * MIB, "MemorySwap": 32 * MIB},
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    ),
    (
        {"MemorySwap": 64 * MIB},
        "You should always set the Memory limit when using Memoryswap limit, see usage",
    ),
    (
        {"Memory": 64 * MIB, "MemoryReservation": 65 * MIB},
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    ),
    ({"MemoryReservation": MIB}, "Minimum memory reservation allowed is 6MB"),
    ({"NanoCpus": 10**15}, "range of CPUs is from 0.01 to"),
    ({"NanoCpus": -1}, "range of CPUs is from 0.01 to"),
    ({"NanoCpus": 1_000_000}, "range of CPUs is from 0.01 to"),
    ({"PidsLimit": 99999999999}, "invalid PIDs limit 99999999999: the kernel has 4194304"),
    (
        {"NanoCpus": 10**9, "CpuQuota": 1000},
        "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
    ),
    (
        {"NanoCpus": 10**9, "CpuPeriod": 1000},
        "Conflicting options: Nano CPUs and CPU Period cannot both be set",
    ),
    ({"CpuShares": -1}, "invalid CPU shares (-1): value must be a positive integer"),
    ({"CpuShares": 1}, "the minimum allowed cpu-shares is 2"),
    ({"CpuShares": 262145}, "the maximum allowed cpu-shares is 262144"),
    ({"CpuQuota": 500}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    ({"CpuPeriod": 10}, "CPU cfs period can not be less than 1ms (i.e. 1000)"),
    (
        {"CpuRealtimePeriod": 1000, "CpuRealtimeRuntime": 2000},
        "kernel does not support CPU real-time scheduler"
        if UNIFIED
        else "cpu real-time runtime cannot be higher than cpu real-time period",
    ),
    ({"CpusetCpus": "4095"}, "Requested CPUs are not available - requested 4095, available: 0"),
    ({"CpusetCpus": "1-0"}, "Invalid value 1-0 for cpuset cpus"),
    ({"CpusetMems": "77"}, "Requested memory nodes are not available - requested 77"),
    ({"OomScoreAdj": 1001}, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
    ({"ShmSize": -1}, "SHM size can not be less than 0"),
    ({"BlkioDeviceReadBps": [{"Path": NONE, "Rate": 1}]}, f"stat {NONE}: no such file"),
    ({"Devices": [{"PathOnHost": NONE}]}, f'adding custom device "{NONE}": no such file'),
    ({"Devices": [{"PathOnHost": "/usr"}]}, 'device "/usr": it has more than 4096 files'),
    ({"Devices": [{"PathOnHost": "/etc/passwd"}]}, '"/etc/passwd": not a device node'),
    (
        {"Devices": [{"PathOnHost": "/dev/null", "CgroupPermissions": "rz"}]},
        "invalid device mode: rz",
    ),
    ({"DeviceCgroupRules": ["c 1:x r"]}, "invalid device cgroup rule format: 'c 1:x r'"),
    ({"Ulimits": [{"Name": "fast", "Soft": 1, "Hard": 1}]}, "invalid ulimit type: fast"),
    (
        {"Ulimits": [{"Name": "nofile", "Soft": 300, "Hard": 200}]},
        "ulimit soft limit must be less than or equal to hard limit: 300 > 200",
    ),
    ({"Sysctls": {"kernel.panic": "1"}}, 'sysctl "kernel.panic" is not in a separate kernel'),
    (
        {"Sysctls": {"net.core.somaxconn": "1"}, "NetworkMode": "host"},
        'sysctl "net.core.somaxconn" not allowed in host network namespace',
    ),
    (
        {"Sysctls": {"kernel.msgmax": "1"}, "IpcMode": "host"},
        'sysctl "kernel.msgmax" not allowed in host ipc namespace',
    ),
    ({"IOMaximumIOps": 1}, "linux does not support Maximum IO Bandwidth or Maximum IO IOps"),
    ({"CgroupnsMode": "other"}, "invalid cgroup namespace mode: other"),
]


@pytest.mark.parametrize(("fields", "sentence"), REFUSED, ids=[json.dumps(f) for f, _ in REFUSED])
def test_a_limit_that_cannot_be_is_refused_and_nothing_is_made(
    daemon: Daemon, fields: dict[str, Any], sentence: str
) -> None:
    answer = daemon.request("POST", "/containers/create?name=refused", body("true", **fields))
    assert answer.status == 400, answer.body
    assert sentence in answer.json["message"]
    assert daemon.request("GET", "/containers/refused/json").status == 404


def test_what_the_kernel_refuses_is_named_and_leaves_nothing(daemon: Daemon) -> None:
    fields = {"BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 1}]}
    container = daemon.request("POST", "/containers/create", body("true", **fields)).json["Id"]
    answer = daemon.request("POST", f"/containers/{container}/start")
    assert answer.status == 400
    assert "1:3" in answer.json["message"]
    eventually(lambda: not CgroupFiles(container).folder("memory").exists())


# --- processes -----------------------------------------------------------------------------------


def test_a_hard_limit_above_ours_is_raised_or_warned_of(daemon: Daemon) -> None:
    wanted = 3_000_000  # above any distribution's default, below the kernel's nr_open... or warned
    fields = {"Ulimits": [{"Name": "memlock", "Soft": 0, "Hard": wanted * 10**6}]}
    answer = daemon.request("POST", "/containers/create", body("ulimit -Hl", **fields))
    assert answer.status == 201
    seen: Seen = run(daemon, "ulimit -Hl", **fields)
    if answer.json["Warnings"]:
        (warning,) = answer.json["Warnings"]
        assert warning.startswith("Hard limits cannot be raised without CAP_SYS_RESOURCE.")
        assert f"lowered from {wanted * 10**6} to {int(seen.out) * 1024}." in warning
    else:
        assert int(seen.out) == wanted * 10**6 // 1024


def test_a_negative_oom_score_is_set_or_warned_of(daemon: Daemon) -> None:
    answer = daemon.request("POST", "/containers/create", body("true", OomScoreAdj=-500))
    seen = run(daemon, "cat /proc/self/oom_score_adj", OomScoreAdj=-500)
    warned = bool(answer.json["Warnings"])
    assert (warned, seen.out) in ((True, "0\n"), (False, "-500\n"))
