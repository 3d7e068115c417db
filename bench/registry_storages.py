"""Memory and speed of our registry on each storage, while many clients push and then pull.

    .venv/bin/python bench/registry_storages.py [filesystem s3 gcs azure swift oss]
        [--clients 1,16] [--size 100] [--pulls 1,8] [--through]

Every client pushes a blob of that many MB; then the blobs are pulled, `--through` the registry also
where clients could be sent to the storage. The storages are those of the tests, on this machine:
their own speed is what limits ours. Prints a Markdown table: MB a second, seconds of CPU for 100
MB, and the registry's peaks of memory: resident, and PSS, which is looked at 50 times a second.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gcs_double import gcs
from registry import CONFIG, MB, Client, Item, make, measure, sha

from tests.object_storages import REMOTE, Storages
from tests.registries import OURS, Registry, registry

LOOK_SECONDS = 0.02


@dataclass
class Row:
    """What one kind of work took."""

    rate: float  # bytes a second
    cpu: float  # seconds for each byte
    resident: int
    proportional: int


class Watch:
    """Looks at a process again and again for its peak of memory."""

    def __init__(self, pid: int) -> None:
        self._rollup = Path(f"/proc/{pid}/smaps_rollup")
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.peak = 0

    def _look(self) -> None:
        while not self._ends.wait(LOOK_SECONDS):
            found = re.search(r"^Pss:\s+(\d+)", self._rollup.read_text(), re.MULTILINE)
            self.peak = max(self.peak, int(found[1]) * 1024 if found else 0)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()


@contextmanager
def hub_on(kind: str, folder: Path, through: bool) -> Iterator[Registry]:
    """Run our registry on an empty storage, which may use a folder."""
    objects: dict[str, Any] | None = None
    with ExitStack() as stack:
        if kind != "filesystem":
            if kind == "gcs":
                place = stack.enter_context(gcs(folder))
            else:
                place = stack.enter_context(Storages()).place(kind)
            objects = {kind: place, "redirect": {"disable": through}}
        yield stack.enter_context(registry(program=OURS, objects=objects))


def work(hub: Registry, verb: str, items: list[Item], clients: int) -> Row:
    """Push or pull all items; forget the peak of before."""
    assert hub.process
    Path(f"/proc/{hub.process.pid}/clear_refs").write_text("5")  # proc(5): the peak, from now on
    with Watch(hub.process.pid) as watch:
        found = measure(hub, verb, "bench/app", items, clients)
    size = items[0].size
    return Row(found.rate * size, found.cpu / size, found.peak, watch.peak)


def rows(kind: str, options: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """Yield the figures of one storage."""
    folder = Path(tempfile.mkdtemp(prefix="bench-registry-", dir="/var/tmp"))
    try:
        for clients in options.clients:
            items = make(folder, options.size * MB, clients)
            with hub_on(kind, folder, options.through) as hub:
                Client(hub.site.port).upload("bench/app", sha(CONFIG), CONFIG)
                title = f"{kind}, {clients} of {options.size} MB"
                yield f"push {title}", work(hub, "push", items, clients)
                for pulls in options.pulls if clients == max(options.clients) else ():
                    title = f"{kind}, {pulls} clients"
                    yield f"pull {title}", work(hub, "pull", items[:pulls], pulls)
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    numbers: Callable[[str], list[int]] = lambda text: [int(n) for n in text.split(",") if n]  # noqa: E731
    kinds = ("filesystem", *REMOTE)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=" ".join(kinds))
    parser.add_argument("--clients", type=numbers, default=[1, 16])
    parser.add_argument("--pulls", type=numbers, default=[1, 8])
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--through", action="store_true")
    options = parser.parse_args()
    print("| what | MB/s | CPU s for 100 MB | peak resident, MB | peak PSS, MB |")
    print("|---|---|---|---|---|", flush=True)
    for kind in options.kinds or kinds:
        for title, row in rows(kind, options):
            print(
                f"| {title} | {row.rate / MB:.0f} | {row.cpu * 100 * MB:.2f}"
                f" | {row.resident // MB} | {row.proportional // MB} |",
                flush=True,
            )
    print(f"\nload: {os.getloadavg()}")


if __name__ == "__main__":
    main()
