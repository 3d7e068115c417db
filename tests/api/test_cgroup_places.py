"""Where the cgroup of a container is: parents, namespaces, and the driver that asks systemd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cgroup_files import ROOT, UNIFIED, CgroupFiles
from tests.daemon import Daemon, running
from tests.inside import body, execute, run, started
from tests.session import eventually, unique

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]
MIB = 1 << 20
OWN = "grep -E '^0::|:memory:' /proc/self/cgroup | head -n 1 | cut -d: -f3"


@pytest.fixture
def parent() -> Iterator[str]:
    """A name for a parent cgroup; what was made of it goes."""
    name = unique()
    yield name
    for folder in [*ROOT.glob(f"*/{name}*"), *ROOT.glob(f"{name}*")]:
        folder.rmdir()


@pytest.mark.parametrize("suffix", ["", ".slice"])
def test_a_container_is_below_the_parent_that_it_names(
    daemon: Daemon, parent: str, suffix: str
) -> None:
    fields = {"CgroupParent": f"/{parent}{suffix}", "CgroupnsMode": "host", "Memory": 64 * MIB}
    with started(daemon, "sleep 1000", **fields) as container:
        assert execute(daemon, container, OWN).out == f"/{parent}{suffix}/{container}\n"
        files = CgroupFiles(container, f"{parent}{suffix}")
        limit = files.read("memory.max" if UNIFIED else "memory.limit_in_bytes")
        assert limit == str(64 * MIB)
    eventually(lambda: not files.folder("memory").exists())


def test_a_parent_cannot_lead_out_of_the_hierarchy(daemon: Daemon, parent: str) -> None:
    fields = {"CgroupParent": f"../../{parent}", "CgroupnsMode": "host"}
    with started(daemon, "sleep 1000", **fields) as container:
        assert execute(daemon, container, OWN).out == f"/{parent}/{container}\n"


@pytest.mark.parametrize(("mode", "is_private"), [("private", True), ("host", False)])
def test_a_namespace_hides_where_the_cgroup_is(daemon: Daemon, mode: str, is_private: bool) -> None:
    seen = run(daemon, OWN, CgroupnsMode=mode).out.strip()
    assert (seen == "/") is is_private
    assert seen.startswith("/sampan/") is not is_private


def test_without_a_word_the_namespace_is_that_of_docker(daemon: Daemon) -> None:
    made = daemon.request("POST", "/containers/create", body("true")).json["Id"]
    shown = daemon.request("GET", f"/containers/{made}/json").json["HostConfig"]
    assert shown["CgroupnsMode"] == ("private" if UNIFIED else "host")


# --- systemd -------------------------------------------------------------------------------------

systemd = pytest.mark.kernel("systemd")
LIMITS: dict[str, Any] = {
    "Memory": 64 * MIB,
    "MemorySwap": 96 * MIB,
    "CpuQuota": 20000,
    "CpuPeriod": 50000,
    "CpuShares": 512,
    "CpusetCpus": "0",
    "PidsLimit": 20,
}
FILES = {
    "memory.max": str(64 * MIB),
    "memory.swap.max": str(32 * MIB),
    "cpu.max": "20000 50000",
    "cpu.weight": "59",
    "cpuset.cpus": "0",
    "pids.max": "20",
}


@pytest.fixture(scope="module")
def driven() -> Iterator[Daemon]:
    """A daemon whose containers are scopes of systemd."""
    with running("--exec-opt", "native.cgroupdriver=systemd") as daemon:
        daemon.import_image()
        yield daemon


def scope(container: str, slice_: str = "system.slice") -> Path:
    """Return the cgroup of a container's scope."""
    return ROOT / slice_ / f"sampan-{container}.scope"


def read(folder: Path, names: Any = FILES) -> dict[str, str]:
    """Return the content of some files of a cgroup."""
    return {name: (folder / name).read_text().strip() for name in names}


def systemctl(*words: str) -> str:
    """Ask systemd."""
    asked = subprocess.run(["systemctl", *words], check=False, capture_output=True, text=True)
    return asked.stdout.strip()


@systemd
def test_a_container_is_a_scope_with_its_limits(driven: Daemon) -> None:
    with started(driven, "sleep 1000", **LIMITS) as container:
        folder = scope(container)
        assert read(folder) == FILES
        unit = folder.name
        shown = systemctl("show", "-p", "ActiveState,Slice,MemoryMax,TasksMax,Delegate", unit)
        assert set(shown.splitlines()) == {
            "ActiveState=active",
            "Slice=system.slice",
            f"MemoryMax={64 * MIB}",
            "TasksMax=20",
            "Delegate=yes",
        }
        pids = (folder / "cgroup.procs").read_text().split()
        assert len(pids) == 1, "the process that held the scope is still there"
        assert driven.request("GET", "/info").json["CgroupDriver"] == "systemd"
        systemctl("daemon-reload")
        assert read(folder) == FILES
    eventually(lambda: not folder.exists())
    eventually(lambda: systemctl("is-active", unit) == "inactive")


@systemd
def test_a_scope_can_be_used_like_any_container(driven: Daemon) -> None:
    with started(driven, "sleep 1000", **LIMITS) as container:
        assert execute(driven, container, "cat /proc/self/cgroup").out == "0::/\n"
        changed = {"Memory": 80 * MIB, "PidsLimit": 30, "CpuQuota": 30000}
        answer = driven.request("POST", f"/containers/{container}/update", changed)
        assert answer.status == 200, answer.body
        expected = {"memory.max": str(80 * MIB), "pids.max": "30", "cpu.max": "30000 50000"}
        systemctl("daemon-reload")
        assert read(scope(container), expected) == expected
        stats = driven.request("GET", f"/containers/{container}/stats?stream=0&one-shot=1").json
        assert stats["memory_stats"]["limit"] == 80 * MIB
        for action in ("pause", "unpause", "restart?t=0", "kill"):
            answer = driven.request("POST", f"/containers/{container}/{action}")
            assert answer.status == 204, (action, answer.body)


@systemd
def test_a_scope_that_ran_out_of_memory_can_start_again(driven: Daemon) -> None:
    small = {"Memory": 16 * MIB, "MemorySwap": 16 * MIB}
    script = "exec dd if=/dev/zero of=/dev/null bs=64M count=1"
    with started(driven, script, **small) as container:
        for _ in range(2):
            driven.request("POST", f"/containers/{container}/wait")
            state = driven.request("GET", f"/containers/{container}/json").json["State"]
            assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
            answer = driven.request("POST", f"/containers/{container}/start")
            assert answer.status in (204, 304), answer.body


@systemd
def test_a_slice_is_the_parent(driven: Daemon) -> None:
    name = f"{unique().replace('-', '_')}-inner.slice"
    outer = f"{name.partition('-')[0]}.slice"
    with started(driven, "sleep 1000", CgroupParent=name) as container:
        assert scope(container, f"{outer}/{name}").is_dir()
    systemctl("stop", outer)


@systemd
def test_a_parent_that_is_no_slice_is_refused(driven: Daemon) -> None:
    request = body("true", CgroupParent="/folder")
    answer = driven.request("POST", "/containers/create?name=refused", request)
    assert answer.status == 400
    assert answer.json["message"] == (
        'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"'
    )


def test_a_driver_that_nobody_knows_is_refused() -> None:
    options = ["--exec-opt", "native.cgroupdriver=nobody"]
    with pytest.raises(AssertionError, match=r"native\.cgroupdriver option nobody not supported"):
        with running(*options):
            raise RuntimeError("it has started")
