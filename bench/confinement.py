"""What confinement costs: starts with volumes, seccomp, limits and a user namespace; home folders.

    .venv/bin/python bench/confinement.py run [--runs 40]
    .venv/bin/python bench/confinement.py homes [--count 300]

`run` compares starts of one engine in pairs, turn by turn, so that whatever else the machine does
falls on both: what counts is the median of the differences.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engines import Engine, import_base, running

PROFILE = json.dumps(
    {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["kexec_load", "reboot"], "action": "SCMP_ACT_ERRNO"}],
    }
)
LIMITS = {
    "Memory": 256 << 20,
    "NanoCpus": 500_000_000,
    "PidsLimit": 100,
    "CpuShares": 512,
    "Ulimits": [{"Name": "nofile", "Soft": 512, "Hard": 1024}],
}


def variants(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return the host configurations that are compared with a plain one."""
    binds = {"Binds": [f"{folder}:/mnt/{folder.name}" for folder in folders]}
    seccomp = {"SecurityOpt": [f"seccomp={PROFILE}"]}
    auto = {"UsernsMode": "auto"}
    return {
        "plain": {},
        "ten -v": binds,
        "seccomp profile": seccomp,
        "limits": LIMITS,
        "--userns=auto": auto,
        "all of it": {**binds, **seccomp, **LIMITS, **auto},
    }


def start(engine: Engine, host: dict[str, Any]) -> float:
    """Create and start a container, wait for its end, remove it; return ms of all but removal."""
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": host}
    begin = time.perf_counter()
    made = engine.request("POST", "/containers/create", body)["Id"]
    engine.request("POST", f"/containers/{made}/start")
    engine.request("POST", f"/containers/{made}/wait")
    spent = time.perf_counter() - begin
    engine.request("DELETE", f"/containers/{made}?force=1&v=1")
    return spent * 1000


def compare(engine: Engine, runs: int) -> None:
    """Print what each variant takes more than a plain start."""
    folders = [engine.folder / "binds" / f"v{number}" for number in range(10)]
    for folder in folders:
        folder.mkdir(parents=True)
    wanted = variants(folders)
    for host in wanted.values():
        start(engine, host)
    spent: dict[str, list[float]] = {name: [] for name in wanted}
    for _ in range(runs):
        for name, host in wanted.items():
            spent[name].append(start(engine, host))
    plain = spent["plain"]
    print(f"{'':18}{'median':>8}{'least':>8}{'more than plain, paired median':>34}")
    for name, times in spent.items():
        more = statistics.median(a - b for a, b in zip(times, plain, strict=True))
        print(f"{name:18}{statistics.median(times):8.1f}{min(times):8.1f}{more:34.1f} ms")


def homes(engine: Engine, count: int) -> None:
    """Run containers with a home folder each, every one in a range of its own; print memory."""
    rows = []
    for mode in ("", "auto"):
        base, begin = engine.memory(), time.perf_counter()
        available = _available()
        for number in range(count):
            home = engine.folder / "homes" / f"user{number}"
            home.mkdir(parents=True, exist_ok=True)
            (home / ".profile").write_text("export PS1='$ '\n")
            body = {
                "Image": "busybox",
                "Cmd": ["sleep", "100000"],
                "HostConfig": {
                    "Binds": [f"{home}:/root{':idmap' if mode else ''}"],
                    "UsernsMode": mode,
                    "Memory": 512 << 20,
                },
            }
            made = engine.request("POST", f"/containers/create?name=dev{mode}{number}", body)["Id"]
            engine.request("POST", f"/containers/{made}/start")
        spent = time.perf_counter() - begin
        ours = (engine.memory() - base) / count
        kernel = (available - _available()) / count
        rows.append((mode or "host", spent / count * 1000, ours / 1024, kernel / 1024))
        listed = len(engine.request("GET", "/containers/json"))
        if listed != count:
            raise RuntimeError(f"{listed} containers run, not {count}")
        engine.remove_all()
    print(f"{count} containers, each with its home folder at /root")
    print(f"{'userns':8}{'start, ms':>12}{'engine, KiB each':>20}{'whole machine, KiB each':>26}")
    for mode, start_ms, own, all_of_it in rows:
        print(f"{mode:8}{start_ms:12.1f}{own:20.1f}{all_of_it:26.1f}")


def _available() -> int:
    """Return the memory that the machine has left, in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("no MemAvailable")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["run", "homes"], choices=["run", "homes"])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--count", type=int, default=300)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    with running("sampand") as engine:
        import_base(engine)
        if "run" in options.what:
            compare(engine, options.runs)
        if "homes" in options.what:
            homes(engine, options.count)


if __name__ == "__main__":
    main()
