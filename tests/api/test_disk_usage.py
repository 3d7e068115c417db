"""What the daemon says of its disk, compared with du, and the checker on a whole daemon."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests import tarballs
from tests.daemon import Daemon, running
from tests.layouts import Layout
from tests.session import eventually
from tests.tarballs import archive, file

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

TAR = {"Content-Type": "application/x-tar"}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon with images of all kinds, containers, and what an interrupted load left."""
    with running() as daemon:
        daemon.import_image()
        layout = Layout()
        base, top = (archive(file(name, os.urandom(300_000))) for name in ("base", "top"))
        amd, arm = layout.image(base), layout.image(base, top, architecture="arm64")
        layout.name(layout.index(amd, arm, layout.attestation(amd)), "docker.io/library/app:1")
        assert daemon.request("POST", "/images/load", layout.archive(), TAR).status == 200
        for command in (["sh", "-c", "head -c 200000 /dev/zero > /x"], ["true"]):
            made = daemon.request(
                "POST", "/containers/create", {"Image": "busybox", "Cmd": command}
            ).json["Id"]
            daemon.request("POST", f"/containers/{made}/start")
            daemon.request("POST", f"/containers/{made}/wait")
        rest = Layout()
        rest.name(rest.image(archive(file("rest", os.urandom(200_000)))))
        with contextlib.suppress(OSError, http.client.HTTPException):
            content = rest.archive()
            end = content.index(b'"schemaVersion"')  # of the manifest: the layer came before
            daemon.request("POST", "/images/load", content[:end], TAR)
        yield daemon


def storage(daemon: Daemon) -> dict[str, dict[str, int]]:
    items = daemon.request("GET", "/system/df?verbose=1").json["Storage"]
    return {item["Kind"]: item for item in items}


def test_every_byte_below_the_data_root_is_accounted_for(daemon: Daemon) -> None:
    def compare() -> bool:
        told = sum(item["Size"] for item in storage(daemon).values())
        command = ["du", "--summarize", "--block-size=1", str(daemon.data_root)]
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
        return told == int(listed.stdout.split()[0])

    eventually(compare)


def test_each_kind_of_thing_is_counted_and_a_prune_gives_back_what_a_load_left(
    daemon: Daemon,
) -> None:
    found = storage(daemon)
    assert found["Layers"]["Count"] == 3
    assert found["Layers"]["Reclaimable"] >= 600_000
    assert found["Unfinished layers"]["Count"] == 1
    assert found["Unfinished layers"]["Reclaimable"] == found["Unfinished layers"]["Size"] > 0
    assert found["Layer archives"]["Count"] == 2
    assert found["Manifests and configurations"]["Count"] >= 7
    assert found["Containers"]["Count"] == 2
    assert found["Containers"]["Size"] >= 200_000
    assert found["Logs and files"]["Count"] == 2
    assert found["Database"]["Size"] > 0
    report = daemon.request("POST", "/images/prune").json
    assert report["SpaceReclaimed"] >= 200_000
    assert storage(daemon)["Unfinished layers"] == {
        "Kind": "Unfinished layers", "Count": 0, "Size": 0, "Reclaimable": 0,
    }  # fmt: skip


def test_kinds_that_were_not_asked_for_are_left_out(daemon: Daemon) -> None:
    body = daemon.request("GET", "/system/df?type=image").json
    assert body["LayersSize"] > 0
    assert body["Containers"] is None
    assert "Storage" not in body
    assert daemon.request("GET", "/v1.41/system/df?type=image").json["Containers"] is not None


def test_the_checker_finds_nothing_wrong_with_a_daemon_that_works(daemon: Daemon) -> None:
    report = daemon.request("GET", "/system/check").json
    assert report["Problems"] == []
    assert report["Checked"]["Images"] == 3
    assert report["Checked"]["Layers"] >= 3
    assert daemon.request("POST", "/system/check?repair=1").json["Problems"] == []


def test_the_checker_mends_a_store_that_was_spoiled(daemon: Daemon) -> None:
    digest = tarballs.digest(b"stray")
    stray = daemon.content / "blobs" / digest.replace(":", "/")
    stray.write_bytes(b"other")
    (problem, *_) = daemon.request("GET", "/system/check").json["Problems"]
    assert (problem["Kind"], problem["Repaired"]) == ("blob", False)
    (problem, *_) = daemon.request("POST", "/system/check?repair=1").json["Problems"]
    assert problem["Repaired"]
    assert not stray.exists()
