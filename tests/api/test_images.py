"""Images of a whole daemon: what containers add to them, and what full disks and kills leave."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import sqlite3
import tarfile
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests import tarballs
from tests.daemon import Answer, Daemon, running
from tests.ordeals import at_rest, settles, stored
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

TAR = {"Content-Type": "application/x-tar"}
PIECE = 1 << 20


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon with one image."""
    with running() as daemon:
        daemon.import_image()
        yield daemon


@pytest.fixture
def small() -> Iterator[Daemon]:
    """A daemon whose disk is soon full."""
    with running(data_size="24m") as daemon:
        daemon.import_image()
        yield daemon


@pytest.fixture
def mortal() -> Iterator[Daemon]:
    """A daemon that the test may kill."""
    with running() as daemon:
        daemon.import_image()
        yield daemon


def create(daemon: Daemon, image: str, *command: str) -> str:
    answer = daemon.request(
        "POST", "/containers/create", {"Image": image, "Cmd": list(command) or ["true"]}
    )
    assert answer.status == 201, answer.body
    identifier: str = answer.json["Id"]
    return identifier


def run(daemon: Daemon, image: str, *command: str) -> str:
    """Run a container to its end, with success; return its id."""
    container = create(daemon, image, *command)
    assert daemon.request("POST", f"/containers/{container}/start").status == 204
    ended = daemon.request("POST", f"/containers/{container}/wait").json
    assert ended["StatusCode"] == 0
    return container


def import_(daemon: Daemon, content: bytes, repository: str) -> Answer:
    return daemon.request(
        "POST", f"/images/create?fromSrc=-&repo={repository}&tag=latest", content, TAR
    )


def names(daemon: Daemon) -> list[str]:
    return sorted(
        tag for image in daemon.request("GET", "/images/json").json for tag in image["RepoTags"]
    )


def noise(count: int) -> bytes:
    """Return a root file system with `count` files of 1 MiB that no compression makes smaller."""
    return tarballs.archive(
        *(tarballs.file(f"noise{n}", os.urandom(PIECE)) for n in range(count)),
        tarballs.file("bin", b""),
    )


def saved(content: bytes, reference: str) -> bytes:
    """Return what `docker save` gives for an image with one layer."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [tarballs.digest(content)]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in (
            ("layer.tar", content),
            ("config.json", config),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def load(daemon: Daemon, content: bytes) -> Answer:
    return daemon.request("POST", "/images/load?quiet=1", saved(content, "loaded:latest"), TAR)


def commit(daemon: Daemon, container: str, repository: str) -> Answer:
    return daemon.request("POST", f"/commit?container={container}&repo={repository}", {})


# --- containers on images ------------------------------------------------------------------


def test_a_fresh_container_has_changed_nothing(daemon: Daemon) -> None:
    container = run(daemon, "busybox", "test", "-f", "/.dockerenv", "-a", "-L", "/etc/mtab")
    assert daemon.request("GET", f"/containers/{container}/changes").json is None
    sizes = daemon.request("GET", f"/containers/{container}/json?size=1").json
    assert sizes["SizeRw"] == 0
    image = daemon.request("GET", "/images/busybox/json").json
    assert sizes["SizeRootFs"] == image["Size"]


def test_places_for_mounts_that_the_user_asked_for_are_changes(daemon: Daemon) -> None:
    answer = daemon.request(
        "POST",
        "/containers/create",
        {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"Tmpfs": {"/a/b": ""}}},
    )
    container = answer.json["Id"]
    daemon.request("POST", f"/containers/{container}/start")
    daemon.request("POST", f"/containers/{container}/wait")
    changes = daemon.request("GET", f"/containers/{container}/changes").json
    assert changes == [{"Path": "/a", "Kind": 1}, {"Path": "/a/b", "Kind": 1}]


def test_a_commit_holds_what_the_container_wrote_and_nothing_else(daemon: Daemon) -> None:
    container = run(daemon, "busybox", "sh", "-c", "echo new > /new")
    before = at_rest(daemon)
    made = commit(daemon, container, "committed").json["Id"]
    assert daemon.request("GET", f"/images/{made}/history").json[0]["Size"] == len("new\n")
    daemon.request("DELETE", f"/images/{made}")
    settles(daemon, before)


def test_the_last_container_takes_the_layers_of_an_image_that_is_gone(daemon: Daemon) -> None:
    before = at_rest(daemon)
    assert import_(daemon, noise(1), "gone").status == 200
    container = create(daemon, "gone", "/x")
    assert daemon.request("DELETE", "/images/gone?force=1").status == 200
    layers = f"snapshots/{daemon.driver}/sha256-"
    assert any(name.startswith(layers) for name in stored(daemon) - before)
    assert daemon.request("DELETE", f"/containers/{container}").status == 204
    settles(daemon, before)


def test_an_image_for_another_machine_is_taken_with_a_warning(daemon: Daemon) -> None:
    content = tarballs.archive(tarballs.file("x"))
    query = "fromSrc=-&repo=foreign&platform=linux/s390x"
    assert daemon.request("POST", f"/images/create?{query}", content, TAR).status == 200
    answer = daemon.request("POST", "/containers/create", {"Image": "foreign", "Cmd": ["/x"]})
    assert answer.status == 201
    assert "platform (linux/s390x) does not match" in answer.json["Warnings"][0]
    daemon.request("DELETE", f"/containers/{answer.json['Id']}")
    daemon.request("DELETE", "/images/foreign")


# --- full disks ----------------------------------------------------------------------------


@pytest.mark.parametrize("take", [lambda d, c: import_(d, c, "big"), load], ids=["import", "load"])
def test_a_disk_that_fills_while_an_archive_comes_in_is_said_and_nothing_stays(
    small: Daemon, take: Callable[[Daemon, bytes], Answer]
) -> None:
    before = at_rest(small)
    answer = take(small, noise(40))
    assert "no space left on device" in answer.body.decode().lower()
    assert answer.status == 500 or b"errorDetail" in answer.body
    assert names(small) == ["busybox:latest"]
    settles(small, before)
    assert import_(small, noise(2), "little").status == 200
    run(small, "busybox", "true")


def test_a_disk_that_fills_while_a_container_is_committed_is_said_and_nothing_stays(
    small: Daemon,
) -> None:
    container = run(small, "busybox", "sh", "-c", "head -c 13000000 /dev/urandom > /big")
    before = at_rest(small)
    answer = commit(small, container, "committed")
    assert answer.status == 500
    assert "no space left on device" in answer.json["message"].lower()
    assert names(small) == ["busybox:latest"]
    settles(small, before)
    small.request("DELETE", f"/containers/{container}")
    run(small, "busybox", "true")


def test_a_first_container_on_a_full_disk_is_refused_and_works_later(small: Daemon) -> None:
    before = at_rest(small)
    ballast = small.data_root / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(1 << 12))
    answer = small.request("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]})
    assert answer.status == 500
    assert "no space left on device" in answer.json["message"].lower()
    settles(small, before)
    ballast.unlink()
    container = run(small, "busybox", "test", "-f", "/.dockerenv")
    assert small.request("GET", f"/containers/{container}/changes").json is None


# --- kills ---------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("work", ["import", "load", "commit"])
def test_a_kill_in_the_middle_leaves_nothing(mortal: Daemon, work: str, delay: float) -> None:
    container = run(mortal, "busybox", "sh", "-c", "head -c 30000000 /dev/urandom > /big")
    before = at_rest(mortal)
    content = noise(30)

    def send() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if work == "import":
                import_(mortal, content, "half")
            elif work == "load":
                load(mortal, content)
            else:
                commit(mortal, container, "half")

    client = threading.Thread(target=send)
    client.start()
    time.sleep(delay)
    mortal.kill()
    client.join()
    mortal.start()
    whole = [name for name in names(mortal) if name != "busybox:latest"]
    for name in whole:  # it was complete before the kill: then it works
        mortal.request("DELETE", f"/images/{name}")
    settles(mortal, before)
    run(mortal, "busybox", "true")


def test_layers_that_nothing_needs_go_at_the_start(mortal: Daemon) -> None:
    before = at_rest(mortal)
    assert import_(mortal, noise(1), "gone").status == 200
    layers = f"snapshots/{mortal.driver}/sha256-"
    (snapshot,) = (name for name in stored(mortal) - before if name.startswith(layers))
    mortal.stop()
    with contextlib.closing(sqlite3.connect(mortal.content.parent / "database.sqlite")) as database:
        (lost,) = database.execute(
            "SELECT image FROM image_references WHERE reference LIKE '%gone%'"
        ).fetchone()
        database.execute("DELETE FROM image_references WHERE image = ?", (lost,))
        database.execute("DELETE FROM images WHERE id = ?", (lost,))
        database.commit()
    mortal.start()
    eventually(lambda: snapshot not in stored(mortal))
    settles(mortal, before)
