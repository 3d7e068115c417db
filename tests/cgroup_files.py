"""The files of a container's cgroup, read from the host: what the kernel says of its limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
UNIFIED = (ROOT / "cgroup.controllers").exists()


@dataclass(frozen=True)
class CgroupFiles:
    """One container's place in each hierarchy; `parent` is that of its cgroups."""

    container: str
    parent: str = "sampan"

    def folder(self, controller: str) -> Path:
        """Return the cgroup's folder where this controller is."""
        root = ROOT if UNIFIED else ROOT / controller
        return root / self.parent / self.container

    def read(self, name: str) -> str:
        """Return a file's content without the last newline."""
        controller = name.partition(".")[0]
        return (self.folder(controller) / name).read_text().strip()

    def table(self, name: str) -> dict[str, int]:
        """Return the numbers of a file of `key value` lines."""
        lines = (line.split() for line in self.read(name).splitlines())
        return {key: int(value) for key, value in lines}


def disk() -> tuple[str, str]:
    """Return the path of a whole disk of this machine, and its "major:minor"."""
    for folder in sorted(Path("/sys/block").glob("*/device")):
        name = folder.parent.name
        if Path("/dev", name).is_block_device():
            return f"/dev/{name}", (folder.parent / "dev").read_text().strip()
    raise AssertionError("this machine has no disk whose rate could be limited")
