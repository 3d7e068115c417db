"""What `stats` computes from two samples."""

from __future__ import annotations

from sampan.cli.containers.stat_columns import Entry, columns, cpu_percent, memory_used

SAMPLE = {
    "name": "/web",
    "id": "0123456789abcdef",
    "cpu_stats": {
        "cpu_usage": {"total_usage": 300},
        "system_cpu_usage": 2000,
        "online_cpus": 2,
    },
    "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
    "memory_stats": {"usage": 3 << 20, "limit": 4 << 20, "stats": {"inactive_file": 1 << 20}},
    "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 2000}},
    "blkio_stats": {
        "io_service_bytes_recursive": [{"op": "Read", "value": 5}, {"op": "write", "value": 7}]
    },
    "pids_stats": {"current": 3},
}


def test_a_hundred_percent_is_one_cpu() -> None:
    assert cpu_percent(SAMPLE) == 40.0
    assert cpu_percent({}) == 0.0


def test_page_cache_that_can_be_dropped_does_not_count() -> None:
    assert memory_used(SAMPLE) == 2 << 20


def test_all_columns_of_a_sample_and_of_none() -> None:
    entry = Entry("web")
    entry.sample, entry.valid = SAMPLE, True
    shown = {name: column(entry) for name, column in columns(True).items()}
    assert shown == {
        "Container": "web",
        "Name": "web",
        "ID": "0123456789ab",
        "CPUPerc": "40.00%",
        "MemUsage": "2MiB / 4MiB",
        "MemPerc": "50.00%",
        "NetIO": "1kB / 2kB",
        "BlockIO": "5B / 7B",
        "PIDs": "3",
    }
    assert columns(True)["MemUsage"](Entry("x")) == "-- / --"
