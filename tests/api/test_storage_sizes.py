"""--storage-opt size, with a whole daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.test_bad_days import lines, start, wait
from tests.api.test_storage_drivers import inspect, using
from tests.daemon import Answer, Daemon, running
from tests.filesystems import Shop
from tests.privileged.test_sizes import limited

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

FILL = ["sh", "-c", "dd if=/dev/urandom of=/big bs=1M count=40 && sync; ls /big"]


@pytest.fixture(scope="module", params=["btrfs@btrfs", "overlay@xfs"])
def engine(request: pytest.FixtureRequest, filesystems: Shop) -> Iterator[Daemon]:
    """A daemon whose containers may write 30 MB unless they ask for something else."""
    options = ["--storage-opt", "size=30m"]
    if request.param == "btrfs@btrfs":
        with using(request.param, filesystems, *options) as daemon:
            yield daemon
            daemon.remove_containers()
        return
    with limited("xfs", "pquota") as root, running("-s", "overlay", *options, data_in=root) as own:
        own.import_image()
        yield own
        own.remove_containers()


def create(daemon: Daemon, **host_config: object) -> Answer:
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": host_config}
    return daemon.request("POST", "/containers/create", body)


@pytest.mark.parametrize("size", ["10m", ""])
def test_a_container_cannot_write_beyond_its_size(engine: Daemon, size: str) -> None:
    options = {"HostConfig": {"StorageOpt": {"size": size}}} if size else {}
    container = start(engine, *FILL, **options)
    wait(engine, container)
    said = "".join(lines(engine, container))
    assert "Disk quota exceeded" in said or "No space left on device" in said
    shown = inspect(engine, container)["HostConfig"].get("StorageOpt")
    assert shown == ({"size": size} if size else None)


def test_a_container_may_have_more_than_the_default(engine: Daemon) -> None:
    container = start(engine, *FILL, HostConfig={"StorageOpt": {"size": "100M"}})
    assert wait(engine, container) == 0, lines(engine, container)
    assert lines(engine, container)[-1] == "/big"


def test_a_full_container_hurts_no_other_and_is_removed(engine: Daemon) -> None:
    full = start(engine, *FILL, HostConfig={"StorageOpt": {"size": "5m"}})
    wait(engine, full)
    other = start(engine, "sh", "-c", "echo x >/file && cat /file")
    assert wait(engine, other) == 0
    assert engine.request("DELETE", f"/containers/{full}").status == 204


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"size": "much"}, "invalid size: 'much'"),
        ({"colour": "red"}, "Unknown option colour"),
    ],
)
def test_what_is_no_size_is_refused(engine: Daemon, options: object, reason: str) -> None:
    answer = create(engine, StorageOpt=options)
    assert (answer.status, answer.json["message"]) == (400, reason)


def test_a_size_is_refused_in_dockers_words_without_quotas(daemon: Daemon) -> None:
    answer = create(daemon, StorageOpt={"size": "10G"})
    assert answer.status == 400
    assert answer.json["message"].startswith(
        "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
    )
    assert create(daemon, StorageOpt={"size": "0"}).status == 201


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("overlay2.size=1G", "Storage option overlay.size not supported"),
        ("dm.basesize=1G", "unknown storage option: dm.basesize"),
        ("size", "Unable to parse storage-opt key/value: size"),
    ],
)
def test_a_daemon_with_a_default_that_cannot_be_kept_does_not_start(
    option: str, reason: str
) -> None:
    with (
        pytest.raises(AssertionError, match=f"failed to start daemon: .*{reason}") as refused,
        running("-s", "overlay2", "--storage-opt", option) as daemon,
    ):
        pytest.fail(f"it started:\n{daemon.log}")
    assert "Traceback" not in str(refused.value)
