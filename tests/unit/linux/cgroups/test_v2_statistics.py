"""Counters of cgroup v2, read from a directory that plays the cgroup."""

from __future__ import annotations

import os
from pathlib import Path

from sampan.linux.cgroups import v1_statistics, v2_statistics
from sampan.linux.cgroups.files import Directory
from sampan.linux.cgroups.statistics import UNLIMITED, BlockCount

FILES = {
    "cpu.stat": "usage_usec 7\nuser_usec 5\nsystem_usec 2\nnr_periods 3\n"
    "nr_throttled 1\nthrottled_usec 9\n",
    "memory.current": "4096\n",
    "memory.peak": "8192\n",
    "memory.max": "max\n",
    "memory.events": "low 0\nhigh 0\nmax 1\noom 2\noom_kill 3\n",
    "memory.stat": "anon 1\nfile 2\n",
    "memory.swap.current": "0\n",
    "memory.swap.max": "1000\n",
    "pids.current": "2\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n254:16 \n",
    "hugetlb.2MB.current": "0\n",
    "hugetlb.2MB.events": "max 4\n",
}


def test_counters_come_in_the_units_of_version_1(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    directory = Directory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    read = v2_statistics.read(directory)
    directory.close()
    assert (read.cpu.total, read.cpu.user, read.cpu.system) == (7000, 5000, 2000)
    assert (read.cpu.periods, read.cpu.throttled_periods, read.cpu.throttled_time) == (3, 1, 9000)
    assert (read.memory.usage, read.memory.max_usage) == (4096, 8192)
    assert (read.memory.limit, read.memory.swap_limit) == (UNLIMITED, 1000)
    assert (read.memory.oom_kills, read.memory.fail_count) == (3, 2)
    assert read.memory.stat == {"anon": 1, "file": 2}
    assert (read.pids, read.pids_limit) == (2, 0)
    assert read.block_io.service_bytes == (
        BlockCount(8, 0, "read", 1),
        BlockCount(8, 0, "write", 2),
    )
    assert read.block_io.serviced == (BlockCount(8, 0, "read", 3), BlockCount(8, 0, "write", 4))
    assert read.hugetlb["2MB"].fail_count == 4


def test_a_group_without_controllers_counts_zero(tmp_path: Path) -> None:
    directory = Directory(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    read = v2_statistics.read(directory)
    directory.close()
    assert (read.cpu.total, read.memory.usage, read.pids) == (0, 0, 0)
    assert read.block_io.service_bytes == ()


def test_the_grand_total_of_version_1_is_left_out() -> None:
    counts = v1_statistics.block_counts("8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n")
    assert counts == (BlockCount(8, 0, "Read", 4096), BlockCount(8, 0, "Total", 4096))
