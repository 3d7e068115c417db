"""How many bytes of long lines a second of the keeper's processor time carries into a json-file.

Use (as root): .venv/bin/python -m bench.logs
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.spawner import JSON, running

SIZE = 300_000_000


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the rate."""
    with running() as spawner:
        script = f"yes {'x' * 8000} | head -c {SIZE}"
        container = spawner.start("/bin/sh", "-c", script, streams=JSON)
        keeper = spawner.keeper()
        before = cpu_seconds(keeper)
        spawner.end(container)
        print(f"{SIZE / (cpu_seconds(keeper) - before) / 1e6:.0f} MB/s")


if __name__ == "__main__":
    main()
