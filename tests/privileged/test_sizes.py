"""Limits of what a container may write to its file system (--storage-opt size)."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument, NoSpace
from sampan.linux import capabilities, quota
from sampan.rpc import Fd
from sampan.storage.linux_mounter import LinuxMounter
from sampan.storage.linux_volume_keeper import LinuxVolumeKeeper
from sampan.storage.projects import Projects
from sampan.storage.volume_keeper import Fill
from tests.filesystems import kernel_has, mounted
from tests.session import unique
from tests.snapshots import BASE, Snapshots
from tests.tarballs import archive, chain, file

pytestmark = pytest.mark.privileged

MIB = 1 << 20
# Driver and file system; options of its mount, which not every kernel has.
LIMITED = {
    "btrfs@btrfs": "",
    "overlay@xfs": "pquota",
    "overlay@ext4": "prjquota",
    "fuse-overlayfs@xfs": "pquota",
    "vfs@xfs": "pquota",
}


@contextlib.contextmanager
def limited(kind: str, options: str) -> Iterator[Path]:
    """Make a file system that limits sizes, or skip the test."""
    if not kernel_has(kind):
        pytest.skip(f"this kernel has no {kind}")
    with contextlib.ExitStack() as stack:
        try:
            root = stack.enter_context(mounted(kind, options, "1G"))
        except subprocess.CalledProcessError:
            pytest.skip(f"this kernel has no project quotas of {kind}")
        yield root


@pytest.fixture(params=LIMITED)
def variant(request: pytest.FixtureRequest) -> str:
    """Which driver is used, and on what."""
    return str(request.param)


@pytest.fixture
def root(variant: str) -> Iterator[Path]:
    """A data root."""
    with limited(variant.partition("@")[2], LIMITED[variant]) as folder:
        yield folder


@pytest.fixture
def snapshots(variant: str, root: Path) -> Iterator[Snapshots]:
    with Snapshots(LinuxMounter(root, variant.partition("@")[0])) as snapshots:
        yield snapshots


@pytest.fixture(autouse=True)
def _without_its_privilege() -> Iterator[None]:
    """ext4 lets a process with CAP_SYS_RESOURCE write past a limit; our helpers do not have it."""
    before = capabilities.capget()
    bit, _ = capabilities.bits(["CAP_SYS_RESOURCE"])
    capabilities.capset(before.effective & ~bit, before.permitted, before.inheritable)
    yield
    capabilities.capset(before.effective, before.permitted, before.inheritable)


def fill(folder: Path, most: int = 64 * MIB) -> int:
    """Write until the limit is met; return how much went in, or `most`."""
    written = 0
    try:
        with open(folder / f"fill-{unique()}", "wb", buffering=0) as file:
            while written < most:
                written += file.write(os.urandom(MIB))
                os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    return written


def test_writing_ends_at_the_limit_and_hurts_nobody_else(snapshots: Snapshots) -> None:
    image = snapshots.layers(BASE)
    snapshots.mounter.prepare("small", image, 10 * MIB)
    snapshots.mounter.prepare("other", image)
    small, other = snapshots.mount("small"), snapshots.mount("other")
    assert 5 * MIB <= fill(small) <= 11 * MIB
    assert fill(small) <= MIB
    assert fill(other, 20 * MIB) == 20 * MIB
    (other / "etc/passwd").write_text("still writable")
    assert (small / "etc/group").read_bytes() == b"root"


def test_what_is_removed_can_be_written_again(snapshots: Snapshots) -> None:
    snapshots.mounter.prepare("small", snapshots.layers(BASE), 10 * MIB)
    small = snapshots.mount("small")
    fill(small)
    for path in small.glob("fill-*"):
        path.unlink()
    os.sync()
    assert fill(small) >= 5 * MIB


def test_the_limit_holds_after_a_restart(snapshots: Snapshots, root: Path, variant: str) -> None:
    snapshots.mounter.prepare("small", snapshots.layers(BASE), 10 * MIB)
    snapshots.mounter.close()
    with Snapshots(LinuxMounter(root, variant.partition("@")[0])) as again:
        assert fill(again.mount("small")) <= 11 * MIB
        again.mounter.prepare("next", chain(BASE), 5 * MIB)
        assert fill(again.mount("next")) <= 6 * MIB


def test_the_image_below_does_not_count(snapshots: Snapshots, variant: str) -> None:
    if variant.startswith("vfs"):
        pytest.skip("what is copied counts")
    image = snapshots.layers(archive(file("big", b"x" * 20 * MIB)))
    snapshots.mounter.prepare("small", image, 10 * MIB)
    small = snapshots.mount("small")
    assert (small / "big").stat().st_size == 20 * MIB
    assert fill(small) >= 5 * MIB


@pytest.fixture
def projects() -> Iterator[Projects]:
    with limited("xfs", "pquota") as root:
        yield Projects(root, "overlay")


def test_projects_are_never_handed_out_twice(projects: Projects) -> None:
    folder = projects._root
    numbers = []
    for count in range(5):
        made = folder / f"one{count}"
        made.mkdir()
        Projects(folder, "overlay").limit(made, MIB)
        fd = os.open(made, os.O_RDONLY)
        numbers.append(quota.project_of(fd))
        os.close(fd)
        projects.release(made)
        made.rmdir()
    assert len(set(numbers)) == 5
    assert numbers == sorted(numbers)


def test_projects_of_others_are_passed_over(projects: Projects) -> None:
    folder = projects._root
    fd = os.open(folder, os.O_RDONLY)
    quota.limit_project(fd, (1 << 20) + 1, MIB)
    os.close(fd)
    numbers = []
    for name in ("one", "two"):
        (folder / name).mkdir()
        projects.limit(folder / name, MIB)
        fd = os.open(folder / name, os.O_RDONLY)
        numbers.append(quota.project_of(fd))
        os.close(fd)
    assert numbers == [1 << 20, (1 << 20) + 2]


def test_numbers_are_found_again_in_folders_when_the_file_is_lost(projects: Projects) -> None:
    folder = projects._root
    (folder / "one").mkdir()
    projects.limit(folder / "one", MIB)
    (folder / ".projects").unlink()
    (folder / "two").mkdir()
    Projects(folder, "overlay").limit(folder / "two", MIB)
    fd = os.open(folder / "two", os.O_RDONLY)
    assert quota.project_of(fd) == (1 << 20) + 1
    os.close(fd)


@pytest.mark.parametrize("driver", ["overlay", "vfs", "fuse-overlayfs"])
def test_a_size_is_refused_where_the_file_system_cannot_limit_it(
    driver: str, tmp_path: Path
) -> None:
    with Snapshots(LinuxMounter(tmp_path, driver)) as snapshots:
        with pytest.raises(
            InvalidArgument,
            match=f"^--storage-opt is supported only for {driver} over xfs with 'pquota' mount",
        ):
            snapshots.mounter.prepare("small", None, MIB)
        assert snapshots.mounter.snapshots() == []


# --- volumes -------------------------------------------------------------------------------------


@pytest.mark.kernel  # Debian's has what most test machines lack
@pytest.mark.parametrize("where", ["xfs pquota", "ext4 prjquota"])
def test_a_volume_holds_no_more_than_its_size(where: str) -> None:
    kind, options = where.split()
    with limited(kind, options) as root, contextlib.closing(LinuxVolumeKeeper(root)) as keeper:
        keeper.make_volume("small", 4 * MIB)
        keeper.make_volume("large")
        volumes = root / "volumes"
        assert 3 * MIB < fill(volumes / "small/_data") <= 4 * MIB
        assert fill(volumes / "large/_data") == 64 * MIB
        for path in (volumes / "small/_data").glob("fill-*"):
            path.unlink()
        image = root / "image"
        image.mkdir()
        (image / "much").write_bytes(b"x" * 8 * MIB)
        with Fd(os.open(root, os.O_PATH | os.O_DIRECTORY)) as fd:
            with pytest.raises(NoSpace):
                keeper.fill_volumes(fd, [Fill(volume="small", path="/image")])
        assert os.listdir(volumes / "small/_data") == []
        keeper.remove_volume("small")
        keeper.collect_volumes()
        keeper.make_volume("small", 8 * MIB)
        assert 7 * MIB < fill(volumes / "small/_data") <= 8 * MIB
