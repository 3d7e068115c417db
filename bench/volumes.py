"""Volumes: copy-up of many files, and runs with many mounts; ours and dockerd in turn.

    .venv/bin/python bench/volumes.py [copy-up run] [--runs N] [--files N]

Prints a Markdown table of medians in milliseconds and the ratio ours / dockerd; for copy-up also
the CPU time, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from containers import in_turn, report
from engines import Engine, import_base, running, wanted

SIZES = (200, 1_000, 4_000, 12_000)  # bytes of the files, as a tree of sources has them
PER_FOLDER = 100


def many_files(count: int) -> bytes:
    """Return an image with `count` files below /tree, owned by a user."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(count):
            if number % PER_FOLDER == 0:
                folder = tarfile.TarInfo(f"tree/{number // PER_FOLDER}")
                folder.type, folder.mode, folder.uid = tarfile.DIRTYPE, 0o755, 1000
                tar.addfile(folder)
            size = SIZES[number % len(SIZES)]
            entry = tarfile.TarInfo(f"tree/{number // PER_FOLDER}/{number}")
            entry.size, entry.uid, entry.gid = size, 1000, 1000
            tar.addfile(entry, io.BytesIO(os.urandom(size)))
    return buffer.getvalue()


def create(engine: Engine, image: str, **host: Any) -> str:
    """Make a container, and return its id."""
    host = {"NetworkMode": "none", **host}
    body = {"Image": image, "Cmd": ["true"], "HostConfig": host}
    return str(engine.request("POST", "/containers/create", body)["Id"])


def remove(engine: Engine, container: str) -> None:
    engine.request("DELETE", f"/containers/{container}?force=1&v=1")


def bench_copy_up(engines: dict[str, Engine], runs: int, files: int) -> None:
    """Making a container whose new volume gets the image's files."""
    content = many_files(files)
    walls: dict[str, list[float]] = {name: [] for name in engines}
    cpus: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine.upload("/images/create?fromSrc=-&repo=many", content)
    for turn in range(runs + 1):
        for name, engine in engines.items():
            time.sleep(1)  # what the last turn removed is deleted in the background
            cpu, start = all_cpu(engine), time.perf_counter()
            container = create(engine, "many", Binds=[f"copy{turn}:/tree"])
            wall = (time.perf_counter() - start) * 1000
            cpu = (all_cpu(engine) - cpu) * 1000
            remove(engine, container)
            engine.request("DELETE", f"/volumes/copy{turn}")
            if turn:  # the first one warms the caches
                walls[name].append(wall)
                cpus[name].append(cpu)
    medians = {name: statistics.median(values) for name, values in walls.items()}
    report(f"copy-up of {files} files", medians)
    report("the same, least", {name: min(values) for name, values in walls.items()})
    medians = {name: statistics.median(values) for name, values in cpus.items()}
    report("the same, CPU time", medians)


def all_cpu(engine: Engine) -> float:
    """Return the CPU seconds of the engine, with those of its children that have ended."""
    ticks = 0
    for pid in engine.processes():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(fields[at]) for at in (11, 12, 13, 14))
    return ticks / os.sysconf("SC_CLK_TCK")


def bench_run(engines: dict[str, Engine], runs: int, files: int) -> None:
    """Create, start, end and removal of `true`: plain, and with ten of each kind of mount."""
    with tempfile.TemporaryDirectory() as folder:
        kinds: dict[str, dict[str, Any]] = {
            "plain": {},
            "ten binds": {"Binds": [f"{folder}:/m{number}" for number in range(10)]},
            "ten named volumes": {"Binds": [f"named{number}:/m{number}" for number in range(10)]},
            "ten new volumes": {
                "Mounts": [{"Type": "volume", "Target": f"/m{number}"} for number in range(10)]
            },
        }
        for kind, host in kinds.items():
            actions: dict[str, Callable[[], object]] = {
                name: whole_life(engine, host) for name, engine in engines.items()
            }
            report(f"run of true, {kind}", in_turn(actions, runs))


def whole_life(engine: Engine, host: dict[str, Any]) -> Callable[[], object]:
    def act() -> None:
        container = create(engine, "busybox", **host)
        engine.request("POST", f"/containers/{container}/start")
        engine.request("POST", f"/containers/{container}/wait")
        remove(engine, container)

    return act


BENCHES = {"copy-up": bench_copy_up, "run": bench_run}


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=" ".join(BENCHES))
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--files", type=int, default=10_000)
    arguments = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.0f}\n")
    print("| | sampand | dockerd | ratio |\n|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        engines = {name: stack.enter_context(running(name)) for name in wanted()}
        for engine in engines.values():
            import_base(engine)
        for name in arguments.what or BENCHES:
            BENCHES[name](engines, arguments.runs, arguments.files)


if __name__ == "__main__":
    main()
