"""Layers: how fast an archive becomes a snapshot, and a snapshot an archive again.

.venv/bin/python bench/layers.py [--files 50000] [--megabytes 1000] [--runs 3] [unpack pack …]
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import resource
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from isal import igzip

from sampan.rpc import Fd
from sampan.storage.archives.compression import plain_chunks, reader_of
from sampan.storage.linux_mounter import LinuxMounter

WORDS = 1 << 23  # bytes of text that files are cut from
PER_FOLDER = 25


def make_archive(path: Path, files: int, megabytes: int) -> None:
    """Write a gzip layer of text files: many small ones and some large ones."""
    choose = random.Random(1)
    vocabulary = [choose.randbytes(choose.randint(2, 9)).hex().encode() for _ in range(4000)]
    text = b" ".join(choose.choices(vocabulary, k=WORDS // 8))
    sizes = [int(choose.paretovariate(1.16) * 1000) for _ in range(files)]
    factor = megabytes * 1_000_000 / sum(sizes)
    with igzip.open(path, "wb", compresslevel=1) as out, tarfile.open(fileobj=out, mode="w") as tar:
        for number, size in enumerate(min(int(s * factor), 64 << 20) for s in sizes):
            folder = f"usr/share/package-{number // PER_FOLDER // 20}/part-{number // PER_FOLDER}"
            if number % PER_FOLDER == 0:
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
                tar.addfile(entry)
            entry = tarfile.TarInfo(f"{folder}/file-{number}.txt")
            entry.size, entry.mode, entry.mtime = size, 0o644, 1_700_000_000 + number
            at = choose.randrange(len(text) // 2)
            content = text[at : at + size]
            content += text[: size - len(content)] * (1 + size // len(text))
            tar.addfile(entry, io.BytesIO(content[:size]))


class Spent:
    """Wall clock and processor time of something, in this process and its children."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        mine = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (
            time.perf_counter(),
            mine.ru_utime + children.ru_utime,
            mine.ru_stime + children.ru_stime,
        )

    def cells(self) -> tuple[float, float, float]:
        """Return seconds: (wall, user, system)."""
        now = self._now()
        wall, user, system = (a - b for a, b in zip(now, self._before, strict=True))
        return wall, user, system


def timed(action: Callable[[], object]) -> tuple[float, float, float]:
    """Return what a call costs."""
    os.sync()
    spent = Spent()
    action()
    return spent.cells()


class Layers:
    """One archive and a mounter to unpack it with."""

    def __init__(self, archive: Path, root: Path) -> None:
        self.archive, self.root = archive, root
        self.mounter = LinuxMounter(root)
        self.chain = ""

    def unpack(self, key: str = "staged") -> None:
        """Unpack the archive."""
        fd = os.open(self.archive, os.O_RDONLY)
        try:
            self.chain = self.mounter.unpack(Fd(fd), key).diff_id
        finally:
            os.close(fd)

    def unpack_in_child(self, key: str) -> Callable[[], object]:
        """Unpack the archive in a forked child, as the helper does; wait for it by the result."""
        child = os.fork()
        if child == 0:
            try:
                self.unpack(key)
            finally:
                os._exit(0)
        return lambda: os.waitpid(child, 0)

    def unpack_many(self, count: int) -> None:
        """Unpack several at once."""
        for wait in [self.unpack_in_child(f"staged-{number}") for number in range(count)]:
            wait()

    def commit(self) -> None:
        """Commit the layer."""
        self.mounter.commit("staged", self.chain, None)

    def pack(self) -> None:
        """Write the layer into a pipe that is read to its end."""
        read, write = os.pipe()
        drain = threading.Thread(target=_drain, args=(read,))
        drain.start()
        try:
            self.mounter.pack_layer(self.chain, Fd(write))
        finally:
            os.close(write)
            drain.join()

    def inflate(self) -> None:
        """Do what takes the place of `pack` when archives are kept."""
        fd = os.open(self.archive, os.O_RDONLY)
        digest = hashlib.sha256()
        read, write = os.pipe()
        drain = threading.Thread(target=_drain, args=(read,))
        drain.start()
        for chunk in plain_chunks(reader_of(fd)):
            digest.update(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(write, rest) :]
        os.close(write)
        drain.join()
        os.close(fd)

    def remove(self) -> None:
        """Remove the layer, and wait until it is gone."""
        self.mounter.remove(self.chain)
        self.mounter.close()


def _drain(fd: int) -> None:
    while os.read(fd, 1 << 20):
        pass
    os.close(fd)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--archive", type=Path, help="a gzip layer; made if it is missing")
    parser.add_argument("only", nargs="*", help="unpack, commit, pack …")
    options = parser.parse_args()
    best: dict[str, tuple[float, float, float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        archive = options.archive or Path(folder) / "layer.tar.gz"
        if not archive.exists():
            make_archive(archive, options.files, options.megabytes)
        for run in range(options.runs):
            layers = Layers(archive, Path(folder) / str(run))
            steps: dict[str, Callable[[], object]] = {
                "unpack": layers.unpack,
                "commit": layers.commit,
                "pack": layers.pack,
                "inflate": layers.inflate,
                "verify": lambda layers=layers: layers.mounter.verify(layers.chain),
                "remove": layers.remove,
                "many": lambda layers=layers: layers.unpack_many(3),
            }
            for name, action in steps.items():
                if options.only and name not in options.only:
                    continue
                cells = timed(action)
                best[name] = min(best.get(name, cells), cells)
    print("| what | wall | user | system |\n|---|---|---|---|")
    for name, (wall, user, system) in best.items():
        print(f"| {name} | {wall:.2f} s | {user:.2f} s | {system:.2f} s |")


if __name__ == "__main__":
    main()
