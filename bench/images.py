"""Time, memory and round trips of images: ours and dockerd in turn, on one image and registry.

    .venv/bin/python bench/images.py [pull push save load import remove list] [--runs N]

The image has more than 1 GB and 50,000 files in six gzip layers; it is made once and kept in a
folder (`--cache`). Each engine has a network namespace, a data root and registries of its own.
Prints Markdown tables of the best of all runs, and the ratio ours / dockerd.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from big_image import FILES, REFERENCE, big_image
from containers import command, timed
from engines import REPOSITORY, Engine, running, wanted

sys.path.insert(0, str(REPOSITORY))

from tests.registries import Registry, registry

STEPS = ("pull", "push", "save", "load", "import", "remove")
LISTED = 1000


@dataclass
class Sample:
    """What one step took."""

    milliseconds: float
    cpu: float  # of all processes of the engine, in milliseconds
    peak: int  # PSS, bytes
    requests: dict[str, int] = field(default_factory=dict)


class Watch:
    """Measures the memory of an engine ten times a second, in a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._measure)
        self.peak = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._end.wait(0.1):
            self.peak = max(self.peak, memory(self._engine))


def engine_processes(engine: Engine) -> list[int]:
    """Return the engine's processes without our registries, which share its network."""
    found = []
    for pid in engine.processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as name:
            if not name.read().startswith("docker-registry"[:15]):
                found.append(pid)
    return found


def memory(engine: Engine) -> int:
    """Return the proportional set size of the engine in bytes."""
    total = 0
    for pid in engine_processes(engine):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as rollup:
            total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return total << 10


def cpu(engine: Engine) -> float:
    """Return the CPU time of the engine with its ended children, in milliseconds."""
    ticks = 0
    for pid in engine_processes(engine):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
            ticks += sum(map(int, stat.read().rpartition(")")[2].split()[11:15]))
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")


class Bench:
    """One engine with its registries, and what it took so far."""

    def __init__(self, engine: Engine, source: Registry, folder: Path) -> None:
        self.engine, self.source, self.folder = engine, source, folder
        self.samples: dict[str, list[Sample]] = defaultdict(list)
        self.name = f"{source.address}/{REFERENCE}"

    def docker(self, *words: str) -> Callable[[], object]:
        return command(self.engine, "docker", *words)

    def step(self, title: str, action: Callable[[], object], *hubs: Registry) -> None:
        """Measure one action; its requests to registries are counted."""
        os.sync()
        for hub in hubs:
            hub.forget()
        before = cpu(self.engine)
        with Watch(self.engine) as watch:
            taken = timed(action)
        time.sleep(0.1)  # what the engine does after its answer is its work too
        counted: dict[str, int] = defaultdict(int)
        for hub in hubs:
            for access in hub.accesses():
                counted[access.method] += 1
        sample = Sample(taken, cpu(self.engine) - before, watch.peak, dict(counted))
        self.samples[title].append(sample)
        print(f"  {self.engine.name}: {title}: {taken / 1000:.2f} s", file=sys.stderr)

    # --- the steps -----------------------------------------------------------------------------

    def pull(self) -> None:
        self.step("pull, cold", self.docker("pull", "-q", self.name), self.source)
        self.step("pull, all there", self.docker("pull", "-q", self.name), self.source)

    def push(self, title: str, image: str) -> None:
        """Push to a registry that has nothing, then again."""
        with registry(self.engine.namespace) as hub:
            target = f"{hub.address}/pushed:1"
            self.docker("tag", image, target)()
            self.step(f"push, {title}", self.docker("push", "-q", target), hub, self.source)
            self.step(f"push again, {title}", self.docker("push", "-q", target), hub, self.source)
            self.docker("rmi", target)()

    def run(self, steps: list[str], archive: Path, root: Path) -> None:
        """Go once through the life of the image."""
        self.pull()
        if "push" in steps:
            self.push("pulled image", self.name)
        if "save" in steps:
            target = self.folder / "saved.tar"
            self.step("save", self.docker("save", "-o", str(target), self.name))
            target.unlink()
        if "remove" in steps:
            self.step("rmi", self.docker("rmi", self.name))
        else:
            self.docker("rmi", self.name)()
        if "load" in steps:
            self.step("load", self.docker("load", "-qi", str(archive)))
            if "push" in steps:
                self.push("loaded image", REFERENCE)
            self.docker("rmi", REFERENCE)()
        if "import" in steps:
            self.step("import", self.docker("import", str(root), "imported"))
            self.docker("rmi", "imported")()

    def list(self) -> None:
        """List many images."""
        for number in range(LISTED):
            self.docker_import_small(number)
        path = "/images/json"
        for _ in range(10):
            self.step(f"API list of {LISTED}", lambda: self.engine.request("GET", path))
            self.step(f"docker images of {LISTED}", self.docker("images"))
        sampan = f"{REPOSITORY}/.venv/bin/sampan"
        if self.engine.name == "sampand":
            for _ in range(10):
                self.step(f"sampan images of {LISTED}", command(self.engine, sampan, "images"))

    def docker_import_small(self, number: int) -> None:
        import io
        import tarfile

        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            archive.addfile(tarfile.TarInfo(f"image{number}"))
        self.engine.upload(
            f"/images/create?fromSrc=-&repo=many/image{number}&tag=1", content.getvalue()
        )


@contextlib.contextmanager
def benches(cache: Path) -> Iterator[list[Bench]]:
    """Start the engines, each with a registry that has the image."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in wanted():
            engine = stack.enter_context(running(name))
            source = stack.enter_context(registry(engine.namespace, storage=cache / "storage"))
            found.append(Bench(engine, source, cache))
        yield found


def best(samples: list[Sample]) -> Sample:
    return min(samples, key=lambda sample: sample.milliseconds)


def report(found: list[Bench]) -> None:
    """Print what the steps took, side by side."""
    ours = found[0]
    peer = found[1] if len(found) > 1 else None
    print(
        "| what | Sampan | dockerd | ratio | CPU, ours | CPU, dockerd | requests, ours | dockerd |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for title, samples in ours.samples.items():
        mine = best(samples)
        other = best(peer.samples[title]) if peer and peer.samples.get(title) else None
        cells = [title, seconds(mine.milliseconds)]
        cells.append(seconds(other.milliseconds) if other else "-")
        cells.append(f"{mine.milliseconds / other.milliseconds:.3f}" if other else "-")
        cells += [seconds(mine.cpu), seconds(other.cpu) if other else "-"]
        cells += [requests(mine), requests(other) if other else "-"]
        print(f"| {' | '.join(cells)} |")
    for bench in found:
        peaks = {title: max(s.peak for s in taken) for title, taken in bench.samples.items()}
        top = max(peaks, key=lambda title: peaks[title])
        print(f"\nPeak PSS of {bench.engine.name}: {peaks[top] / 1e6:.0f} MB ({top})")


def seconds(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.2f} s"


def requests(sample: Sample) -> str:
    return ", ".join(f"{n} {method}" for method, n in sorted(sample.requests.items())) or "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("steps", nargs="*", default=[*STEPS, "list"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path("/var/tmp/sampan-bench-image"))
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    options = parser.parse_args()
    archive, root = big_image(options.cache)
    with benches(options.cache) as found:
        size = archive.stat().st_size / 1e9
        print(f"An image of {size:.2f} GB and {FILES:,} files, best of {options.runs} runs\n")
        for _ in range(options.runs):
            for bench in found:
                if set(options.steps) & set(STEPS):
                    bench.run(options.steps, archive, root)
        for bench in found:
            if "list" in options.steps:
                bench.list()
        report(found)
        if options.json:
            taken = {
                b.engine.name: {t: [vars(s) for s in v] for t, v in b.samples.items()}
                for b in found
            }
            options.json.write_text(json.dumps(taken, indent=1))


if __name__ == "__main__":
    main()
