"""A hostile container works against a start: what it shares with others changes meanwhile.

Every row of docs/explanation/security.md names its test.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.inside import body, create

pytestmark = pytest.mark.privileged

STARTS = 12
RENAME_EXCHANGE, AT_FDCWD = 2, -100  # linux/fs.h, linux/fcntl.h
libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def exchanging(first: Path, second: Path) -> Iterator[None]:
    """Exchange two names without a pause, as a program in a container would."""
    done = threading.Event()
    names = (os.fsencode(first), os.fsencode(second))

    def work() -> None:
        while not done.is_set():
            libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that two containers share: `place` is a folder, `other` leads out of it."""
    folder = tmp_path / "shared"
    (folder / "place").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (folder / "other").symlink_to("../../../../../../../../../.." + str(tmp_path / "outside"))
    (tmp_path / "payload").mkdir()
    (tmp_path / "payload/marker").write_text("payload")
    return folder


def test_cve_2021_30465_a_destination_is_exchanged_while_containers_start(
    daemon: Daemon, shared: Path
) -> None:
    """The mount lands inside whatever the name is at that moment, and on nothing of the host."""
    outside = shared.parent / "outside"
    binds = [f"{shared}:/shared", f"{shared.parent}/payload:/shared/place/deep/in"]
    started = rounds = 0
    with exchanging(shared / "place", shared / "other"):
        while rounds < STARTS or (not started and rounds < 20 * STARTS):
            rounds += 1
            made = daemon.request("POST", "/containers/create", body("sleep 1000", Binds=binds))
            container = made.json["Id"]
            answer = daemon.request("POST", f"/containers/{container}/start")
            assert answer.status in (204, 400), answer.body
            started += answer.status == 204
            daemon.request("DELETE", f"/containers/{container}?force=1")
            assert list(outside.iterdir()) == []
    assert started
    assert (shared.parent / "payload/marker").read_text() == "payload"


def test_cve_2024_23652_nothing_is_removed_where_a_mount_was(daemon: Daemon, shared: Path) -> None:
    """Places that a start has made for mounts stay; what had the same name outside does, too."""
    keep = shared.parent / "outside" / "keep"
    keep.touch()
    marker = shared.parent / "payload/marker"
    for place in ("place/keep", "other/keep"):
        binds = [f"{shared}:/shared", f"{marker}:/shared/{place}"]
        container = create(daemon, f"cat /shared/{place}", Binds=binds)
        answer = daemon.request("POST", f"/containers/{container}/start")
        assert answer.status == (204 if place == "place/keep" else 400), answer.body
        daemon.request("DELETE", f"/containers/{container}?force=1")
        assert keep.read_bytes() == b""
    assert (shared / "place/keep").exists()
