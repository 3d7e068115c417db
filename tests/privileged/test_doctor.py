"""The doctor's questions to this kernel: what it says exists is usable, and nothing is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest

from sampan.engine.doctor.examination import CHECKS, diagnose, examine
from sampan.engine.doctor.findings import Finding, exit_code
from sampan.engine.doctor.host_probes import HostProbes, tried, tried_together
from tests.netns import hosts, links

pytestmark = pytest.mark.privileged


def own_namespaces() -> dict[str, str]:
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}


def test_the_whole_examination_changes_nothing_on_the_host(tmp_path: Path) -> None:
    with hosts():
        before = links(), own_namespaces(), len(os.listdir("/proc/self/fd"))
        findings = examine(HostProbes(), str(tmp_path / "not" / "there" / "yet"))
        assert len(findings) == len(CHECKS) + 2
        assert (links(), own_namespaces(), len(os.listdir("/proc/self/fd"))) == before


def test_the_reason_of_a_failure_comes_back_from_the_child() -> None:
    def fail() -> None:
        raise PermissionError(1, "Operation not permitted")

    assert tried(fail) == "Operation not permitted"
    assert tried(lambda: None) == ""
    assert "ZeroDivisionError" in tried(lambda: 1 / 0)


def test_what_ends_the_child_keeps_the_answers_of_no_other() -> None:
    def fail() -> None:
        raise PermissionError(1, "Operation not permitted")

    def die() -> None:
        os.kill(os.getpid(), signal.SIGSYS)

    works = {"first": fail, "second": die, "third": fail, "fourth": lambda: None}
    reasons = tried_together(works)
    assert list(reasons) == list(works)
    assert reasons["first"] == reasons["third"] == "Operation not permitted"
    assert reasons["second"] == "ended by signal 31"
    assert reasons["fourth"] == ""


def test_a_library_that_is_not_there_is_named() -> None:
    assert HostProbes().library("libnosuch.so.9") == "libnosuch.so.9 is not installed"


def test_this_kernel_starts_our_containers() -> None:
    probes = HostProbes()
    names = ("openat2", "move_mount", "fsopen", "close_range", "clone3", "mount_setattr")
    assert probes.system_calls(names) == dict.fromkeys(names, "")
    kinds = ("mount", "pid", "network", "ipc", "uts")
    assert probes.namespaces(kinds) == dict.fromkeys(kinds, "")
    assert (probes.bridge(), probes.veth(), probes.nftables()) == ("", "", "")


def test_controllers_are_those_that_are_mounted() -> None:
    layout, found = HostProbes().controllers()
    assert layout in ("v1", "v2", "hybrid", "none")
    if layout in ("v1", "hybrid"):
        assert ("memory" in found) == Path("/sys/fs/cgroup/memory/cgroup.procs").exists()


def test_the_diagnosis_is_text_for_people_and_json_for_programs(tmp_path: Path) -> None:
    text, code = diagnose(str(tmp_path))
    assert text.decode().splitlines()[-1]
    data, same_code = diagnose(str(tmp_path), for_programs=True)
    findings = msgspec.json.decode(data, type=list[Finding])
    assert code == same_code == exit_code(findings)


def test_every_storage_driver_is_tried_where_the_data_root_will_be(tmp_path: Path) -> None:
    data, _ = diagnose(str(tmp_path / "not/there/yet"), for_programs=True)
    findings = msgspec.json.decode(data, type=list[Finding])
    (drivers,) = [each for each in findings if each.topic == "storage drivers"]
    assert "overlay" in drivers.found.partition(" work here")[0]
    assert "btrfs: " in drivers.found or "btrfs," in drivers.found
    assert list(tmp_path.iterdir()) == []
