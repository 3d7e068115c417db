"""A daemon that is killed while it changes its images: nothing is half, and nothing leaks."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.daemon import Daemon, running
from tests.layouts import Layout
from tests.session import eventually
from tests.tarballs import archive, file

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

TAR = {"Content-Type": "application/x-tar"}
NAMES = ("one", "two", "three")


def layout() -> bytes:
    """Return three images of four layers each, for two platforms, that share what they can."""
    made = Layout()
    base = [archive(*(file(f"{n}/{m}", os.urandom(20_000)) for m in range(120))) for n in range(3)]
    for name in NAMES:
        own = archive(file(name, os.urandom(900_000)))
        amd, arm = made.image(*base, own), made.image(*base, architecture="arm64")
        index = made.index(amd, arm, made.attestation(amd))
        made.name(index, f"docker.io/library/{name}:latest")
    return made.archive()


content = functools.cache(layout)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with running() as daemon:
        yield daemon


def load(daemon: Daemon) -> None:
    daemon.request("POST", "/images/load?quiet=1", content(), TAR)


def remove(daemon: Daemon) -> None:
    for name in NAMES:
        daemon.request("DELETE", f"/images/{name}")


def prune(daemon: Daemon) -> None:
    daemon.request("POST", '/images/prune?filters={"dangling":["false"]}')


def tag(daemon: Daemon) -> None:
    for name in NAMES:
        for number in range(9):
            daemon.request("POST", f"/images/{name}/tag?repo=again{number}")


def interrupted(daemon: Daemon, work: Callable[[Daemon], None], delay: float) -> None:
    """Kill the daemon while it works, and start it again."""

    def run() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            work(daemon)

    client = threading.Thread(target=run)
    client.start()
    time.sleep(delay)
    daemon.kill()
    client.join()
    daemon.start()


def check_everything(daemon: Daemon) -> None:
    """Every image that is there is whole, and the disk holds nothing else."""
    report = daemon.request("GET", "/system/check").json
    assert report["Problems"] == []
    for image in daemon.request("GET", "/images/json").json:
        name = (image["RepoTags"] or [image["Id"]])[0]
        assert len(daemon.request("GET", f"/images/{name}/get").body) > 900_000


@pytest.mark.parametrize("delay", [0.2, 0.6, 1.4])
def test_a_load_that_is_killed_is_whole_the_next_time(daemon: Daemon, delay: float) -> None:
    interrupted(daemon, load, delay)
    check_everything(daemon)
    load(daemon)
    check_everything(daemon)
    assert len(daemon.request("GET", "/images/json").json) == len(NAMES)
    prune(daemon)
    assert empty(daemon)


@pytest.mark.parametrize(
    ("work", "delay"), [(remove, 0.02), (remove, 0.1), (prune, 0.02), (prune, 0.05), (tag, 0.05)]
)
def test_a_change_that_is_killed_is_done_or_not_done(
    daemon: Daemon, work: Callable[[Daemon], None], delay: float
) -> None:
    load(daemon)
    interrupted(daemon, work, delay)
    check_everything(daemon)
    prune(daemon)
    assert empty(daemon)


def empty(daemon: Daemon) -> bool:
    """Nothing is left on the disk of a daemon whose images are all gone."""

    def nothing() -> bool:
        items = daemon.request("GET", "/system/df?verbose=1").json["Storage"]
        kinds = ("Layers", "Unfinished layers", "Layer archives", "Manifests and configurations")
        return not any(item["Count"] for item in items if item["Kind"] in kinds)

    eventually(nothing)
    return True
