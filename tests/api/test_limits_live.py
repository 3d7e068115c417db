"""Limits of containers that run: `update`, `stats`, and running out of memory."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.cgroup_files import UNIFIED, CgroupFiles
from tests.daemon import Daemon
from tests.inside import execute, started
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]
MIB = 1 << 20
SLEEP = "sleep 1000"
LIMITED = {"Memory": 64 * MIB, "MemorySwap": 128 * MIB}


def on(version_1: Any, version_2: Any) -> Any:
    """Choose by the version of the cgroups here."""
    return version_2 if UNIFIED else version_1


@pytest.fixture
def running(daemon: Daemon) -> Iterator[str]:
    """A container with a limit of memory."""
    with started(daemon, SLEEP, **LIMITED) as container:
        yield container


def update(daemon: Daemon, container: str, **fields: Any) -> list[str]:
    """Update a container, and return the warnings."""
    answer = daemon.request("POST", f"/containers/{container}/update", fields)
    assert answer.status == 200, answer.body
    return list(answer.json["Warnings"] or [])


def host_config(daemon: Daemon, container: str) -> dict[str, Any]:
    """Return what inspect shows."""
    shown = daemon.request("GET", f"/containers/{container}/json").json
    return dict(shown["HostConfig"])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Memory": 100 * MIB}, {on("memory.limit_in_bytes", "memory.max"): "104857600"}),
        (
            {"Memory": 200 * MIB, "MemorySwap": 300 * MIB},
            on(
                {"memory.limit_in_bytes": "209715200", "memory.memsw.limit_in_bytes": "314572800"},
                {"memory.max": "209715200", "memory.swap.max": "104857600"},
            ),
        ),
        (
            {"MemorySwap": -1},
            on({"memory.memsw.limit_in_bytes": "9223372036854771712"}, {"memory.swap.max": "max"}),
        ),
        (
            {"MemoryReservation": 48 * MIB},
            {on("memory.soft_limit_in_bytes", "memory.low"): "50331648"},
        ),
        ({"NanoCpus": 500_000_000}, on({"cpu.cfs_quota_us": "50000"}, {"cpu.max": "50000 100000"})),
        (
            {"CpuQuota": 20000, "CpuPeriod": 50000},
            on(
                {"cpu.cfs_quota_us": "20000", "cpu.cfs_period_us": "50000"},
                {"cpu.max": "20000 50000"},
            ),
        ),
        ({"CpuShares": 512}, {on("cpu.shares", "cpu.weight"): on("512", "59")}),
        ({"CpusetCpus": "0", "CpusetMems": "0"}, {"cpuset.cpus": "0", "cpuset.mems": "0"}),
        ({"PidsLimit": 30}, {"pids.max": "30"}),
        ({"PidsLimit": -1}, {"pids.max": "max"}),
    ],
    ids=str,
)
def test_an_update_holds_at_once_and_after_a_restart(
    daemon: Daemon, running: str, fields: dict[str, Any], expected: dict[str, str]
) -> None:
    files = CgroupFiles(running)
    assert update(daemon, running, **fields) == []
    assert {name: files.read(name) for name in expected} == expected
    shown = host_config(daemon, running)
    assert {name: shown[name] for name in fields} == fields
    assert daemon.request("POST", f"/containers/{running}/restart?t=0").status == 204
    assert {name: files.read(name) for name in expected} == expected


def test_a_weight_is_written_to_who_shares_the_disk_here(daemon: Daemon, running: str) -> None:
    assert update(daemon, running, BlkioWeight=200) == []
    name, content = on(("blkio.bfq.weight", "200"), ("io.weight", "default 1920"))
    assert CgroupFiles(running).read(name) == content


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"Memory": 5 * MIB}, 400, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 200 * MIB}, 409, "smaller than already set memoryswap limit, update the"),
        ({"MemorySwap": 32 * MIB}, 409, "Minimum memoryswap limit should be larger than"),
        ({"MemoryReservation": 65 * MIB}, 409, "can not be less than memory reservation limit"),
        ({"NanoCpus": 10**15}, 400, "range of CPUs is from 0.01 to"),
        ({"NanoCpus": 10**9, "CpuQuota": 1000}, 400, "Nano CPUs and CPU Quota cannot both be set"),
        ({"CpuQuota": 10}, 400, "CPU cfs quota can not be less than 1ms"),
        ({"CpusetCpus": "4095"}, 400, "Requested CPUs are not available - requested 4095"),
        ({"CpuShares": 1}, 400, "the minimum allowed cpu-shares is 2"),
        ({"RestartPolicy": {"Name": "often"}}, 400, "unknown policy 'often'"),
        ({"PidsLimit": 99999999999}, 400, "invalid PIDs limit 99999999999"),
    ],
)
def test_an_update_that_cannot_be_is_refused_and_changes_nothing(
    daemon: Daemon, running: str, fields: dict[str, Any], status: int, sentence: str
) -> None:
    before = host_config(daemon, running)
    answer = daemon.request("POST", f"/containers/{running}/update", fields)
    assert (answer.status, sentence in answer.json["message"]) == (status, True), answer.body
    assert host_config(daemon, running) == before


@pytest.mark.skipif(UNIFIED, reason="version 2 lowers a limit below the usage, and kills")
def test_what_the_kernel_refuses_halfway_is_taken_back(daemon: Daemon) -> None:
    fields = {**LIMITED, "CpuShares": 1024, "Tmpfs": {"/ram": "size=64m"}}
    fill = "dd if=/dev/zero of=/ram/file bs=1M count=32 && echo full && sleep 1000"
    with started(daemon, fill, **fields) as container:
        files = CgroupFiles(container)
        eventually(lambda: int(files.read("memory.usage_in_bytes")) > 30 * MIB)
        wanted = {"Memory": 8 * MIB, "MemorySwap": 8 * MIB, "CpuShares": 512}
        answer = daemon.request("POST", f"/containers/{container}/update", wanted)
        assert answer.status == 400
        assert "unable to set memory limit to 8388608" in answer.json["message"]
        names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.shares")
        expected = [str(64 * MIB), str(128 * MIB), "1024"]
        assert [files.read(name) for name in names] == expected


@pytest.mark.parametrize(
    ("has", "wanted", "sentence"),
    [
        ({"NanoCpus": 10**9}, {"CpuQuota": 2000}, "CPU Quota cannot be updated as NanoCPUs has"),
        ({"NanoCpus": 10**9}, {"CpuPeriod": 2000}, "CPU Period cannot be updated as NanoCPUs has"),
        ({"CpuQuota": 2000}, {"NanoCpus": 10**9}, "Nano CPUs cannot be updated as CPU Quota has"),
        ({"CpuPeriod": 2000}, {"NanoCpus": 10**9}, "Nano CPUs cannot be updated as CPU Period has"),
        (
            {"AutoRemove": True},
            {"RestartPolicy": {"Name": "always"}},
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
    ],
)
def test_an_update_does_not_contradict_what_is_there(
    daemon: Daemon, has: dict[str, Any], wanted: dict[str, Any], sentence: str
) -> None:
    with started(daemon, SLEEP, **has) as container:
        answer = daemon.request("POST", f"/containers/{container}/update", wanted)
        assert answer.status == 409
        assert answer.json["message"].startswith(f"Cannot update container {container}: ")
        assert sentence in answer.json["message"]


def test_an_update_moves_no_container(daemon: Daemon, running: str) -> None:
    """Only what Docker's update changes is read: not where the cgroup is, nor the devices."""
    update(daemon, running, CgroupParent="/elsewhere", Devices=[{"PathOnHost": "/dev/mem"}])
    shown = host_config(daemon, running)
    assert (shown["CgroupParent"], shown["Devices"]) == ("", None)


def test_a_stopped_container_is_updated_for_its_next_start(daemon: Daemon, running: str) -> None:
    assert daemon.request("POST", f"/containers/{running}/stop?t=0").status == 204
    update(daemon, running, Memory=96 * MIB)
    assert daemon.request("POST", f"/containers/{running}/start").status == 204
    name = on("memory.limit_in_bytes", "memory.max")
    assert CgroupFiles(running).read(name) == str(96 * MIB)


# --- running out of memory -----------------------------------------------------------------------

EAT = "dd if=/dev/zero of=/dev/null bs=64M count=1"
SMALL = {"Memory": 16 * MIB, "MemorySwap": 16 * MIB}


def ooms(daemon: Daemon, container: str) -> int:
    """Return how many events of that kind there were."""
    filters = quote(json.dumps({"container": {container: True}, "event": {"oom": True}}))
    until = f"{time.time():.9f}"  # it has passed: the stream ends there
    lines = daemon.request("GET", f"/events?since=0&until={until}&filters={filters}").body
    return len(lines.splitlines())


def test_an_end_by_the_limit_is_told(daemon: Daemon) -> None:
    with started(daemon, f"exec {EAT}", **SMALL) as container:
        code = daemon.request("POST", f"/containers/{container}/wait").json["StatusCode"]
        state = daemon.request("GET", f"/containers/{container}/json").json["State"]
        assert (code, state["OOMKilled"], state["ExitCode"]) == (137, True, 137)
        eventually(lambda: ooms(daemon, container) == 1)


def test_a_process_that_the_limit_kills_is_told_while_the_container_runs(daemon: Daemon) -> None:
    with started(daemon, SLEEP, **SMALL) as container:
        assert execute(daemon, container, EAT).code == 137
        eventually(lambda: ooms(daemon, container) == 1)
        assert execute(daemon, container, EAT).code == 137
        eventually(lambda: ooms(daemon, container) == 2)
        assert daemon.request("GET", f"/containers/{container}/json").json["State"]["Running"]


def test_reaching_the_limit_without_a_kill_is_no_event(daemon: Daemon) -> None:
    """Memory that can be taken back fills the limit; on version 2 its file of events changes."""
    with started(daemon, SLEEP, **SMALL) as container:
        written = execute(daemon, container, "dd if=/dev/zero of=/file bs=1M count=40; rm /file")
        assert written.code == 0, written.err
        assert daemon.request("POST", f"/containers/{container}/kill").status == 204
        daemon.request("POST", f"/containers/{container}/wait")
        assert ooms(daemon, container) == 0


# --- stats ---------------------------------------------------------------------------------------


def sample(daemon: Daemon, container: str, query: str = "stream=0&one-shot=1") -> dict[str, Any]:
    """Return one sample."""
    return dict(daemon.request("GET", f"/containers/{container}/stats?{query}").json)


def test_stats_are_what_the_kernel_counts(daemon: Daemon, running: str) -> None:
    execute(daemon, running, "dd if=/dev/zero of=/file bs=1M count=8; sync; seq 1 20000")
    files = CgroupFiles(running)

    def counts() -> tuple[int, dict[str, int]]:
        usage = int(files.read(on("memory.usage_in_bytes", "memory.current")))
        return usage, files.table("memory.stat")

    def is_quiet() -> bool:  # nothing was counted while we were told
        nonlocal counted, said
        counted, said = counts(), sample(daemon, running)
        return counts() == counted

    said: dict[str, Any] = {}
    counted: tuple[int, dict[str, int]] = (0, {})
    eventually(is_quiet)
    memory = said["memory_stats"]
    assert memory["limit"] == 64 * MIB
    assert (memory["usage"], memory["stats"]) == counted
    assert said["pids_stats"]["current"] == int(files.read("pids.current"))
    used = said["cpu_stats"]["cpu_usage"]["total_usage"]
    now = on(
        lambda: int(files.read("cpuacct.usage")),
        lambda: files.table("cpu.stat")["usage_usec"] * 1000,
    )()
    assert 0 < used <= now < used + 10**9
    assert said["cpu_stats"]["online_cpus"] >= 1
    assert said["precpu_stats"]["cpu_usage"]["total_usage"] == 0


def test_pids_have_their_limit_and_cpus_their_throttling(daemon: Daemon) -> None:
    with started(daemon, "while :; do :; done", PidsLimit=7, NanoCpus=50_000_000) as container:
        eventually(
            lambda: sample(daemon, container)["cpu_stats"]["throttling_data"]["throttled_time"]
        )
        said = sample(daemon, container)
        assert said["pids_stats"]["limit"] == 7
        throttling = said["cpu_stats"]["throttling_data"]
        assert throttling["periods"] >= throttling["throttled_periods"] > 0
        assert throttling["throttled_time"] > 0


def test_a_single_sample_compares_with_the_one_before(daemon: Daemon, running: str) -> None:
    said = sample(daemon, running, "stream=0")
    assert said["preread"] < said["read"]
    assert 0 < said["precpu_stats"]["system_cpu_usage"] < said["cpu_stats"]["system_cpu_usage"]


@pytest.mark.compat
def test_the_docker_command_computes_what_the_kernel_says(daemon: Daemon, running: str) -> None:
    shape = "{{.MemUsage}}|{{.MemPerc}}|{{.PIDs}}|{{.NetIO}}"
    command = [daemon.programs["docker"], "stats", "--no-stream", "--format", shape, running]
    files = CgroupFiles(running)

    def used() -> int:
        cache = files.table("memory.stat")[on("total_inactive_file", "inactive_file")]
        return int(files.read(on("memory.usage_in_bytes", "memory.current"))) - cache

    said: list[str] = []
    taken: list[int] = []

    def shows_what_it_is() -> bool:  # the kernel counts a start for a moment longer
        taken[:] = [used()]
        output = subprocess.run(command, env=daemon.environment, check=True, capture_output=True)
        said[:] = [output.stdout.decode().strip()]
        return used() == taken[0]

    eventually(shows_what_it_is)
    usage, percent, pids, _ = said[0].split("|")
    number, unit = usage.split(" / ")[0][:-3], usage.split(" / ")[0][-3:]
    shown = float(number) * {"KiB": 1024, "MiB": MIB}[unit]
    assert abs(shown - taken[0]) <= 0.01 * taken[0]
    assert usage.split(" / ")[1] == "64MiB"
    assert percent == f"{taken[0] / (64 * MIB) * 100:.2f}%"
    assert pids == files.read("pids.current")
