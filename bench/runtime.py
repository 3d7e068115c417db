"""Time of `run` of one OCI bundle: our runtime and runc in turn, on the same machine.

    .venv/bin/python bench/runtime.py [--runs N]

Prints a Markdown table of medians in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from containers import in_turn
from engines import REPOSITORY

OURS = f"{REPOSITORY}/.venv/bin/sampan-runtime"


def make_bundle(folder: Path) -> None:
    """Write a bundle that runs `true`, with the configuration that `spec` proposes."""
    (folder / "rootfs").mkdir()
    tar = subprocess.run([f"{REPOSITORY}/examples/busybox-rootfs"], check=True, capture_output=True)
    subprocess.run(["tar", "-C", folder / "rootfs", "-x"], input=tar.stdout, check=True)
    subprocess.run([OURS, "spec", "--bundle", folder], check=True)
    config = folder / "config.json"
    document = json.loads(config.read_bytes())
    document["ociVersion"] = "1.0.2"  # which every version of the others knows
    document["process"] |= {"args": ["true"], "terminal": False}
    config.write_text(json.dumps(document))


def run(runtime: str, folder: Path) -> Callable[[], object]:
    """Return a call that runs the bundle once and leaves nothing."""
    state = folder / Path(runtime).name
    name = f"bench-{Path(runtime).name}-{os.getpid()}"
    command = [runtime, "--root", str(state), "run", "--bundle", str(folder), name]
    return lambda: subprocess.run(
        command, check=True, capture_output=True, stdin=subprocess.DEVNULL
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-runtime-", dir="/var/tmp") as name:
        folder = Path(name)
        make_bundle(folder)
        runtimes = {"sampan-runtime": OURS}
        runtimes |= {each: each for each in ("runc",) if shutil.which(each)}
        figures = in_turn(
            {each: run(path, folder) for each, path in runtimes.items()}, arguments.runs
        )
    print("| run of one bundle | ms |\n|---|---|")
    for each, value in figures.items():
        print(f"| {each} | {value:.1f} |")


if __name__ == "__main__":
    main()
