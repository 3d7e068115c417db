"""What single commands make of their options."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.linux.cgroups.statistics import (
    BlockCount,
    BlockStatistics,
    CPUStatistics,
    MemoryStatistics,
    Statistics,
)
from sampan.ocirun import events, kill, listing, main, specification, update
from sampan.ocirun.flags import parse
from sampan.ocirun.state import timestamp
from sampan.runtime import defaults
from sampan.spec.runtime import parse as parse_spec


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *(("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("usr1", signal.SIGUSR1)),
        *(("RTMIN", signal.SIGRTMIN), ("RTMIN+3", signal.SIGRTMIN + 3)),
        *(("SIGRTMAX-1", signal.SIGRTMAX - 1), ("64", 64)),
    ],
)
def test_signals_have_names_and_numbers(name: str, number: int) -> None:
    assert kill.signal_number(name) == number


@pytest.mark.parametrize("name", ["", "0", "65", "NIX", "SIG", "-9", "_DFL", "KILL; rm", "٣"])
def test_what_is_no_signal_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="unknown signal"):
        kill.signal_number(name)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("-1", -1),
        ("1024", 1024),
        ("64k", 65536),
        ("64M", 1 << 26),
        ("1.5GiB", 3 << 29),
        ("2gb", 1 << 31),
    ],
)
def test_sizes_have_units(text: str, number: int) -> None:
    assert update.size(text) == number


def test_options_become_resources() -> None:
    words = ["--memory", "64m", "--memory-swap=-1", "--cpu-quota", "5000", "--pids-limit", "7"]
    words += ["--cpuset-cpus", "0-1", "--blkio-weight", "300", "id"]
    found = update.resources(parse(update.FLAGS, words))
    assert found.memory is not None
    assert (found.memory.limit, found.memory.swap) == (1 << 26, -1)
    assert found.cpu is not None
    assert (found.cpu.quota, found.cpu.cpus, found.cpu.shares) == (5000, "0-1", None)
    assert found.pids is not None
    assert found.pids.limit == 7
    assert found.block_io is not None
    assert found.block_io.weight == 300


def test_a_document_is_taken_alone(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"pids": {"limit": 3}}')
    words = ["-r", str(tmp_path / "r.json"), "--memory", "1m", "id"]
    found = update.resources(parse(update.FLAGS, words))
    assert found.memory is None
    assert found.pids is not None
    assert found.pids.limit == 3


@pytest.mark.parametrize("words", [["--memory", "x"], ["--cpu-quota", "1.5"], ["--memory", "5x"]])
def test_values_that_are_no_numbers_are_refused(words: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="invalid value"):
        update.resources(parse(update.FLAGS, [*words, "id"]))


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5), ("500ms", 0.5), ("2m", 120), ("1.5s", 1.5)]
)
def test_durations_have_units(text: str, seconds: float) -> None:
    assert events.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "0s", "-1s", "xs"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="--interval"):
        events.duration(text)


def test_statistics_have_runc_s_shape() -> None:
    read = Statistics(
        version=1,
        cpu=CPUStatistics(total=3, user=2, system=1, per_cpu=(3, 0)),
        memory=MemoryStatistics(usage=5, limit=6, stat={"cache": 4}),
        block_io=BlockStatistics((BlockCount(8, 0, "Read", 9),)),
        pids=2,
    )
    data = events.described(read)
    assert data["cpu"]["usage"] == {"total": 3, "percpu": [3, 0], "kernel": 1, "user": 2}
    assert data["memory"]["usage"] == {"limit": 6, "usage": 5, "max": 0, "failcnt": 0}
    assert data["memory"]["cache"] == 4
    assert data["blkio"]["ioServiceBytesRecursive"] == [
        {"major": 8, "minor": 0, "op": "Read", "value": 9}
    ]
    assert data["pids"] == {"current": 2, "limit": 0}


def test_tables_are_aligned() -> None:
    rows = [("ID", "STATUS"), ("a-long-container-id", "running")]
    assert listing.table(rows) == "ID                    STATUS\na-long-container-id   running\n"


def test_times_are_rfc_3339() -> None:
    assert timestamp(1_000_000_000_000_000_005) == "2001-09-09T01:46:40.000000005Z"


def test_the_template_has_all_that_is_required(tmp_path: Path) -> None:
    assert main.main(["spec", "--bundle", str(tmp_path)]) == 0
    content = (tmp_path / "config.json").read_bytes()
    document = json.loads(content)
    assert document["ociVersion"] == "1.2.1"
    assert document["process"]["cwd"] == "/"
    assert document["root"]["path"] == "rootfs"
    assert parse_spec(content).process is not None
    assert main.main(["spec", "--bundle", str(tmp_path)]) == 1


def test_a_rootless_template_maps_the_user(tmp_path: Path) -> None:
    assert main.main(["spec", "--rootless", "--bundle", str(tmp_path)]) == 0
    spec = parse_spec((tmp_path / "config.json").read_bytes())
    assert spec.linux is not None
    kinds = {namespace.type for namespace in spec.linux.namespaces}
    assert "user" in kinds
    assert "network" not in kinds
    assert spec.linux.uid_mappings[0].container_id == 0


def test_the_proposed_rules_for_devices_say_all_that_runc_asks_for() -> None:
    document = specification.document(defaults.spec())
    assert document["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
