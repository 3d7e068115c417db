"""Time of builds: ours, and dockerd's classic builder and BuildKit, in turn on the same contexts.

    .venv/bin/python bench/build.py [run cached change copy stages] [--runs N] [--buildx FOLDER]

Debian's docker CLI (20.10, /usr/bin/docker) has a BuildKit client of its own for dockerd, and sends
us whole archives. With `--buildx FOLDER`, a docker configuration that has the plug-in buildx, that
one builds on both sides, by the same protocol.
Each engine has a network namespace and a data root of its own. Prints a Markdown table of the best
of all runs in seconds, and the ratios ours / theirs.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from engines import Engine, import_base, running, wanted

CLI = "/usr/bin/docker"
STEPS = ("run", "cached", "change", "copy", "stages")
BYTES = 700 << 20
ECHOES = 20
WORK = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done"


class Builder:
    """One way to build on one engine."""

    def __init__(self, name: str, engine: Engine, *, buildkit: bool, buildx: str = "") -> None:
        self.name, self._engine = name, engine
        self._environment = {**engine.environment, "DOCKER_BUILDKIT": str(int(buildkit))}
        self._build = ["build"]
        if buildx:
            self._build = ["buildx", "build"]
            self._environment["DOCKER_CONFIG"] = buildx

    def build(self, folder: Path, *options: str) -> float:
        """Build a folder; return the seconds that it took."""
        start = time.monotonic()
        done = subprocess.run(
            [CLI, *self._build, "-q", "-t", "bench", *options, str(folder)],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {done.stderr[-2000:]}")
        return time.monotonic() - start

    def forget(self) -> None:
        """Remove all that was built, and the cache."""
        for image in self._engine.request("GET", "/images/json?all=1"):
            if image["RepoTags"] != ["busybox:latest"]:
                command = [CLI, "rmi", "-f", image["Id"]]
                subprocess.run(command, env=self._environment, capture_output=True, check=False)
        self._engine.request("POST", "/build/prune?all=1")
        os.sync()


@contextmanager
def contexts(files: int) -> Iterator[Path]:
    """Make the folders that are built."""
    root = Path(tempfile.mkdtemp(prefix="bench-contexts-", dir="/var/tmp"))
    try:
        _dockerfile(root / "echo", [f"RUN echo {number}" for number in range(ECHOES)])
        _dockerfile(root / "large", ["COPY . /files/"])
        names = "ab"
        text = "".join(f"FROM busybox AS {name}\nRUN {WORK}; echo > /{name}\n" for name in names)
        copies = "\n".join(f"COPY --from={name} /{name} /" for name in names)
        (root / "stages").mkdir()
        (root / "stages/Dockerfile").write_text(f"{text}FROM busybox\n{copies}\n")
        _fill(root / "large", files)
        yield root
    finally:
        shutil.rmtree(root)


def _dockerfile(folder: Path, lines: list[str]) -> None:
    folder.mkdir()
    (folder / "Dockerfile").write_text("\n".join(["FROM busybox", *lines, ""]))


def _fill(folder: Path, files: int) -> None:
    """Write files of many sizes, which compress as texts do."""
    chance = random.Random(7)
    sizes = [chance.lognormvariate(8.4, 1.75) for _ in range(files)]
    factor = BYTES / sum(sizes)
    pool = bytes(chance.choice(b"etaoinshrdlu \n") for _ in range(8 << 20))
    for number, size in enumerate(sizes):
        path = folder / f"d{number // 500}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        start, left = chance.randrange(1 << 20), int(size * factor)
        with path.open("wb") as file:
            while left > 0:
                file.write(pool[start : start + left])
                left -= len(pool) - start


def run(builder: Builder, root: Path, number: int) -> float:
    """Measure 20 RUN steps, nothing cached."""
    builder.forget()
    return builder.build(root / "echo")


def cached(builder: Builder, root: Path, number: int) -> float:
    """Measure the same again."""
    builder.build(root / "echo")
    return builder.build(root / "echo")


def change(builder: Builder, root: Path, number: int) -> float:
    """Measure a COPY of the large context, of which one file has changed."""
    builder.build(root / "large")
    (root / "large/d0/f0").write_text(f"{builder.name} {number} {time.time()}")
    return builder.build(root / "large")


def copy(builder: Builder, root: Path, number: int) -> float:
    """Measure a COPY of the large context, nothing cached."""
    builder.forget()
    return builder.build(root / "large")


def stages(builder: Builder, root: Path, number: int) -> float:
    """Measure two stages of CPU work that do not need each other."""
    builder.forget()
    return builder.build(root / "stages")


MEASURES: dict[str, Callable[[Builder, Path, int], float]] = {
    "run": run,
    "cached": cached,
    "change": change,
    "copy": copy,
    "stages": stages,
}


def main() -> None:
    """Measure, and print a table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # engines and folders are taken away
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", nargs="*", default=list(STEPS), choices=[*STEPS, []])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--files", type=int, default=55_000)
    parser.add_argument("--without", default="", help="builders that are left out: classic")
    parser.add_argument("--buildx", default="", help="a docker configuration that has buildx")
    options = parser.parse_args()
    with ExitStack() as stack:
        root = stack.enter_context(contexts(options.files))
        builders: list[Builder] = []
        for name in wanted():
            engine = stack.enter_context(running(name))
            import_base(engine)
            builders += _builders(engine, options.without.split(","), options.buildx)
        best: dict[tuple[str, str], float] = {}
        for step in options.steps:
            for number in range(options.runs):
                for builder in builders:
                    took = MEASURES[step](builder, root, number)
                    key = step, builder.name
                    best[key] = min(best.get(key, took), took)
                    print(f"{step} {builder.name}: {took:.2f} s", file=sys.stderr)
    _print(options.steps, [builder.name for builder in builders], best)


def _builders(engine: Engine, without: list[str], buildx: str) -> list[Builder]:
    if engine.name != "dockerd":
        return [Builder(engine.name, engine, buildkit=False, buildx=buildx)]
    if buildx:
        return [Builder("BuildKit", engine, buildkit=True, buildx=buildx)]
    names = [name for name in ("classic", "BuildKit") if name not in without]
    return [Builder(name, engine, buildkit=name == "BuildKit") for name in names]


def _print(steps: list[str], names: list[str], best: dict[tuple[str, str], float]) -> None:
    print(f"| step | {' | '.join(names)} | {' | '.join(f'ours / {one}' for one in names[1:])} |")
    print("|" + " --- |" * (2 * len(names)))
    for step in steps:
        took = [best[step, name] for name in names]
        cells = [f"{one:.2f}" for one in took] + [f"{took[0] / one:.2f}" for one in took[1:]]
        print(f"| {step} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
