"""The columns of `stats`, computed from the daemon's samples.

Source: docker/cli cli/command/container/stats_helpers.go, formatter_stats.go.
"""

from __future__ import annotations

from sampan.cli.containers.columns import short_id
from sampan.cli.display.units import binary_size, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Sample = dict[str, Any]

NONE = "--"
TABLE = (
    r"table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}"
    r"\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
)
HEADINGS = {
    "Container": "CONTAINER",
    "Name": "NAME",
    "ID": "CONTAINER ID",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}


class Entry:
    """A container in the list, and its newest sample, if there is a valid one."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.sample: Sample = {}
        self.valid = False


def columns(truncated: bool) -> dict[str, Callable[[Entry], Any]]:
    """Return the columns; `truncated` shortens ids."""
    return {
        "Container": lambda entry: entry.container,
        "Name": lambda entry: (entry.sample.get("name") or "").removeprefix("/") or NONE,
        "ID": lambda entry: _identifier(entry, truncated),
        "CPUPerc": lambda entry: _if_valid(entry, lambda s: f"{cpu_percent(s):.2f}%"),
        "MemUsage": lambda entry: _if_valid(entry, _memory, f"{NONE} / {NONE}"),
        "MemPerc": lambda entry: _if_valid(entry, lambda s: f"{_memory_percent(s):.2f}%"),
        "NetIO": lambda entry: _if_valid(entry, _network),
        "BlockIO": lambda entry: _if_valid(entry, _blocks),
        "PIDs": lambda entry: _if_valid(
            entry, lambda s: str((s.get("pids_stats") or {}).get("current") or 0)
        ),
    }


def _if_valid(entry: Entry, value: Callable[[Sample], str], otherwise: str = NONE) -> str:
    return value(entry.sample) if entry.valid else otherwise


def _identifier(entry: Entry, truncated: bool) -> str:
    identifier: str = entry.sample.get("id") or ""
    return short_id(identifier) if truncated else identifier


def cpu_percent(sample: Sample) -> float:
    """Return the use of CPU since the sample before, where 100 is one whole CPU."""
    now, before = sample.get("cpu_stats") or {}, sample.get("precpu_stats") or {}
    usage = (now.get("cpu_usage") or {}).get("total_usage") or 0
    used = usage - ((before.get("cpu_usage") or {}).get("total_usage") or 0)
    passed = (now.get("system_cpu_usage") or 0) - (before.get("system_cpu_usage") or 0)
    cpus = now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or [])
    return used / passed * cpus * 100 if used > 0 and passed > 0 else 0.0


def memory_used(sample: Sample) -> int:
    """Return the memory in use without the page cache that can be dropped."""
    memory = sample.get("memory_stats") or {}
    usage: int = memory.get("usage") or 0
    details = memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return usage - cache if cache < usage else usage


def _memory(sample: Sample) -> str:
    limit = (sample.get("memory_stats") or {}).get("limit") or 0
    return f"{binary_size(memory_used(sample))} / {binary_size(limit)}"


def _memory_percent(sample: Sample) -> float:
    limit = (sample.get("memory_stats") or {}).get("limit") or 0
    return memory_used(sample) / limit * 100 if limit else 0.0


def _network(sample: Sample) -> str:
    interfaces = (sample.get("networks") or {}).values()
    received = sum(interface.get("rx_bytes", 0) for interface in interfaces)
    sent = sum(interface.get("tx_bytes", 0) for interface in interfaces)
    return f"{human_size(received, 3)} / {human_size(sent, 3)}"


def _blocks(sample: Sample) -> str:
    read = written = 0
    entries = (sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
    for entry in entries:
        operation = entry.get("op", "")[:1].lower()
        read += entry["value"] if operation == "r" else 0
        written += entry["value"] if operation == "w" else 0
    return f"{human_size(read, 3)} / {human_size(written, 3)}"
