"""What the engine knows of its storage driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.engine.database import Database
from sampan.engine.snapshot_driver import SnapshotDriver, image_root
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import HostConfig
from sampan.storage.mounter import DriverInfo

ABLE = DriverInfo(name="overlay")
UNABLE = DriverInfo(name="overlay", sizes_problem="no quotas here")


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database(":memory:")
    yield database
    database.close()


def asked(**options: str) -> HostConfig:
    return HostConfig(storage_opt=options)


@pytest.mark.parametrize(
    ("default", "options", "size"),
    [
        ([], {}, None),
        ([], {"size": "1k"}, 1024),
        (["size=2k"], {}, 2048),
        (["overlay2.size=2k", "overlay2.override_kernel_check=true"], {"size": "1k"}, 1024),
        (["size=2k"], {"size": "0"}, None),
        (["size=0"], {}, None),
        ([], {"Size": "1.5k"}, 1536),
    ],
)
def test_a_container_has_the_size_it_asks_for_or_the_default(
    default: list[str], options: dict[str, str], size: int | None
) -> None:
    assert SnapshotDriver(ABLE, default).size(asked(**options)) == size


def test_a_size_that_cannot_be_kept_is_refused_with_the_reason() -> None:
    driver = SnapshotDriver(UNABLE)
    assert driver.size(asked()) is None
    assert driver.size(asked(size="0")) is None
    with pytest.raises(InvalidArgument, match=r"^no quotas here$"):
        driver.size(asked(size="1g"))
    with pytest.raises(InvalidArgument, match=r"Storage option overlay\.size not supported"):
        SnapshotDriver(UNABLE, ["size=1g"])


def test_less_than_the_least_is_refused() -> None:
    driver = SnapshotDriver(ABLE, ["btrfs.min_space=10m"])
    assert driver.size(asked(size="10m")) == 10 << 20
    with pytest.raises(InvalidArgument, match="cannot be less than"):
        driver.size(asked(size="9m"))


@pytest.mark.parametrize("option", ["dm.basesize=1g", "size", "=", "size=much", "zfs.fsname=x"])
def test_options_that_mean_nothing_here_are_refused(option: str) -> None:
    with pytest.raises(InvalidArgument):
        SnapshotDriver(ABLE, [option])


def test_the_first_driver_of_a_data_root_has_its_images_in_it(
    tmp_path: Path, database: Database
) -> None:
    vfs, overlay = DriverInfo(name="vfs"), DriverInfo(name="overlay", kept=["vfs"])
    assert image_root(tmp_path, vfs, database) == tmp_path
    assert image_root(tmp_path, overlay, database) == tmp_path / "images/overlay"
    assert image_root(tmp_path, vfs, database) == tmp_path


@pytest.mark.parametrize(
    ("kept", "owner"),
    [(["vfs"], "vfs"), (["overlay"], "overlay"), (["overlay", "vfs"], "overlay")],
)
def test_images_of_an_older_engine_belong_to_the_driver_that_has_their_layers(
    tmp_path: Path, database: Database, kept: list[str], owner: str
) -> None:
    for name in ("btrfs", "vfs", "overlay"):
        root = image_root(tmp_path, DriverInfo(name=name, kept=kept), database)
        assert (root == tmp_path) == (name == owner)
