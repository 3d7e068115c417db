"""Which storage driver is chosen, and what is said of those that are not."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sampan import rpc
from sampan.errors import Unsupported
from sampan.helpers.mount import HOPELESS
from sampan.storage import choosing
from sampan.storage.driver_names import NAMES
from sampan.storage.linux_mounter import LinuxMounter
from tests.daemon import running
from tests.filesystems import Shop, kernel_has
from tests.session import PATIENCE
from tests.snapshots import BASE, Snapshots

pytestmark = pytest.mark.privileged


def used(root: Path, wanted: str = "") -> str:
    mounter = LinuxMounter(root, wanted)
    mounter.close()
    return mounter.driver().name


def without(name: str, reason: str = "broken here") -> object:
    def refuse(folder: Path) -> object:
        raise Unsupported(reason)

    return refuse


def test_every_name_has_a_driver_in_the_same_order() -> None:
    assert tuple(choosing.DRIVERS) == NAMES


def test_the_best_that_works_is_chosen(tmp_path: Path) -> None:
    assert used(tmp_path) == "overlay"
    assert used(tmp_path, "overlay2") == "overlay"


def test_btrfs_takes_the_place_of_an_overlay_that_fails(
    filesystems: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel_has("btrfs"):
        pytest.skip("this kernel has no btrfs")
    monkeypatch.setitem(choosing.DRIVERS, "overlay", without("overlay"))  # type: ignore[arg-type]
    with filesystems.folder("btrfs") as root:
        assert used(root) == "btrfs"


def test_vfs_comes_last_and_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in NAMES[:-1]:
        monkeypatch.setitem(choosing.DRIVERS, name, without(name))  # type: ignore[arg-type]
    assert used(tmp_path) == "vfs"
    assert "no overlay: broken here" in caplog.text
    assert "copies an image whole" in caplog.text
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == ["in-use", "vfs"]


def test_what_is_in_use_stays_in_use(tmp_path: Path) -> None:
    with Snapshots(LinuxMounter(tmp_path, "vfs")) as snapshots:
        snapshots.layers(BASE)
    assert used(tmp_path) == "vfs"
    assert used(tmp_path, "overlay") == "overlay"
    assert used(tmp_path) == "vfs", "there is nothing in overlay yet"
    with Snapshots(LinuxMounter(tmp_path, "overlay")) as snapshots:
        snapshots.layers(BASE)
    assert used(tmp_path) == "overlay", "it was used last"


def test_layers_of_another_driver_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Snapshots(LinuxMounter(tmp_path, "vfs")) as snapshots:
        snapshots.layers(BASE)
        caplog.clear()
    assert used(tmp_path, "overlay") == "overlay"
    (record,) = [it for it in caplog.records if it.levelno == logging.WARNING]
    assert record.message == (
        "1 layers and containers of the storage driver vfs are kept in this data root, but not"
        " used by overlay; --storage-driver=vfs shows them again"
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nosuch", "driver not supported: nosuch"),
        ("aufs", "driver not supported: aufs: no kernel"),
        ("devicemapper", "driver not supported: devicemapper: Docker has given it up"),
        ("zfs", "driver not supported: zfs: the kernel has no ZFS"),
        ("btrfs", "prerequisites for driver not satisfied .wrong filesystem"),
    ],
)
def test_refusals_have_dockers_form(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(Unsupported, match=f"^error initializing graphdriver: {reason}"):
        LinuxMounter(tmp_path, name)


def test_the_helper_ends_when_no_driver_can_be_used(tmp_path: Path) -> None:
    sock, process = rpc.start("sampan.helpers.mount", [str(tmp_path), "btrfs"])
    with sock:
        assert process.wait(PATIENCE) == HOPELESS


def test_a_daemon_without_its_driver_does_not_start_and_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="did not start"),
        running("--storage-driver", "btrfs") as daemon,
    ):
        pytest.fail(f"it started:\n{daemon.log}")
    refused = subprocess.run(
        [f"{sys.prefix}/bin/sampand", "--data-root", str(tmp_path / "data"), "-s", "btrfs"]
        + ["--exec-root", str(tmp_path / "run"), "--pidfile", ""]
        + ["--host", f"unix://{tmp_path}/s"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert refused.returncode == 1
    assert "failed to start daemon: error initializing graphdriver: prereq" in refused.stderr
    assert "Traceback" not in refused.stderr
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError, match=r"refused|No such"):
        client.connect(f"{tmp_path}/s")
