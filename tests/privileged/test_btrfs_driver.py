"""What only the btrfs driver does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import Unsupported
from sampan.storage.linux_mounter import LinuxMounter
from tests.filesystems import Shop, kernel_has
from tests.snapshots import BASE, Snapshots
from tests.tarballs import archive, file

pytestmark = pytest.mark.privileged


@pytest.fixture
def snapshots(filesystems: Shop) -> Iterator[Snapshots]:
    if not kernel_has("btrfs"):
        pytest.skip("this kernel has no btrfs")
    with filesystems.folder("btrfs") as root, Snapshots(LinuxMounter(root, "btrfs")) as snapshots:
        yield snapshots


def test_subvolumes_that_a_container_made_go_with_it(snapshots: Snapshots) -> None:
    path = snapshots.container(BASE)
    top = str(path).replace("self", str(os.getpid()))
    for name in ("data", "data/inner", "data/inner/innermost", "other"):
        subprocess.run(["btrfs", "-q", "subvolume", "create", f"{top}/{name}"], check=True)
    (path / "data/inner/innermost/file").write_text("x")
    command = ["btrfs", "-q", "subvolume", "snapshot", "-r", f"{top}/data", f"{top}/copy"]
    subprocess.run(command, check=True)
    assert ("A", "/data/inner/innermost/file") in snapshots.changes()
    snapshots.mounter.remove("box")
    snapshots.mounter.close()
    assert not snapshots.mounter._store.has_trash()


def test_a_change_of_content_with_old_size_and_time_is_noticed(snapshots: Snapshots) -> None:
    path = snapshots.container(BASE)
    before = (path / "etc/passwd").stat()
    (path / "etc/passwd").write_bytes(b"toor")
    os.utime(path / "etc/passwd", ns=(before.st_atime_ns, before.st_mtime_ns))
    (path / "etc/group").chmod(0o600)
    (path / "etc/group").chmod(0o644)
    assert snapshots.changes() == [("C", "/etc"), ("C", "/etc/passwd")]


def test_a_snapshot_costs_what_differs_from_its_parent(snapshots: Snapshots) -> None:
    path = snapshots.container(archive(file("big", b"x" * 1_000_000)))
    (path / "small").write_bytes(b"y" * 1000)
    usage = snapshots.mounter.usage("box")
    assert (usage.size, usage.inodes) == (1000, 1)


def test_a_data_root_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"wrong filesystem.*, not on btrfs"):
        LinuxMounter(tmp_path, "btrfs")
