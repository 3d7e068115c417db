"""Each storage on bad days: it refuses, hangs, has enough of us, breaks off, forgets who we are.

Every request is answered with a reason, what was acknowledged is there afterwards, nothing else is
to be seen, and all goes on by itself.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.registry.drivers.choice import open_objects
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.registry import Registry
from tests.flaky import Way, flaky
from tests.object_storages import REMOTE, Storages, impatience
from tests.own_registry import Answer, Shop, serving, sha

pytestmark = pytest.mark.slow
MB = 1 << 20


@pytest.fixture(params=REMOTE)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def way(kind: str, storages: Storages, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    with flaky(storages.port(kind)) as found:
        impatience(monkeypatch, found)
        yield found


@pytest.fixture
def shop(
    kind: str, way: Way, storages: Storages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    """A registry that reaches its storage by the flaky way."""
    driver = open_objects(kind, storages.place_by(kind, way.port, monkeypatch))
    with Registry.on_objects(driver, tmp_path) as registry, serving(registry) as found:
        yield found


def refused(answer: Answer, kind: str) -> None:
    assert (answer.status, answer.code) == (503, "UNAVAILABLE"), answer
    message = answer.json["errors"][0]["message"]
    assert re.search(rf"{kind}: \w", message)
    assert "127.0.0.1" not in message


MOODS: dict[str, dict[str, Any]] = {
    "away": {"kind": "away"},
    "hang": {"kind": "hang"},
    **{str(n): {"kind": "refuse", "status": n} for n in (401, 403, 429, 500, 503)},
}


@pytest.mark.parametrize("mood", MOODS)
def test_each_request_is_told_why_and_all_goes_on_by_itself(
    shop: Shop, way: Way, kind: str, mood: str
) -> None:
    image = shop.push("team/app", "1")
    place = shop.begin("team/app")
    assert shop.ask("PATCH", place, b"before").status == 202
    way.become(**MOODS[mood])
    together = [  # each of them waits, until it gives up
        ("GET", f"/v2/team/app/blobs/{sha(b'layer')}", b""),
        ("GET", "/v2/team/app/manifests/1", b""),
        ("POST", "/v2/team/app/blobs/uploads/", b""),
        ("PATCH", place, b"lost"),
        ("DELETE", f"/v2/team/app/manifests/{image}", b""),
    ]
    for answer in shop.ask_together(together):
        refused(answer, kind)
    refused(shop.ask("PUT", f"{place}?digest={sha(b'before')}"), kind)
    assert shop.tags("team/app") == ["1"]  # the rows know it
    way.become("good")
    assert shop.get("/v2/team/app/manifests/1").header("docker-content-digest") == image
    assert shop.get(f"/v2/team/app/blobs/{sha(b'layer')}").body == b"layer"
    assert shop.get(place).header("range") == "0-5"
    assert shop.ask("PATCH", place, b" and after").status == 202
    blob = b"before and after"
    assert shop.ask("PUT", f"{place}?digest={sha(blob)}").status == 201
    assert shop.get(f"/v2/team/app/blobs/{sha(blob)}").body == blob


@pytest.mark.parametrize("mood", ["vanish", "hang", "503"])
def test_a_storage_that_goes_amid_parts_costs_what_was_not_acknowledged(
    shop: Shop, way: Way, kind: str, mood: str
) -> None:
    blob = os.urandom(13 * MB)
    place = shop.begin("team/app")
    assert shop.ask("PATCH", place, blob[: 6 * MB]).status == 202
    way.become("vanish", after=300_000) if mood == "vanish" else way.become(**MOODS[mood])
    pieces = [blob[n : n + MB] for n in range(6 * MB, 13 * MB, MB)]
    refused(shop.ask("PATCH", place, pieces), kind)
    # Unknown, or nobody can tell: small requests may still pass.
    assert shop.ask("GET", f"/v2/team/app/blobs/{sha(blob)}").status in (404, 503)
    way.become("good")
    assert shop.ask("GET", f"/v2/team/app/blobs/{sha(blob)}").status == 404
    answer = shop.get(place)
    assert answer.status == 204
    offset = int(answer.header("range").partition("-")[2]) + 1
    assert 6 * MB <= offset <= 13 * MB
    rest = [blob[n : min(n + MB, 13 * MB)] for n in range(offset, 13 * MB, MB)]
    assert shop.ask("PATCH", place, rest or b"").status == 202
    assert shop.ask("PUT", f"{place}?digest={sha(blob)}").status == 201
    assert shop.get(f"/v2/team/app/blobs/{sha(blob)}").body == blob
    shop.ask("DELETE", f"/v2/team/app/blobs/{sha(blob)}")
    shop.registry.collector.collect(-1)
    shop.registry.purge_uploads(time.time() + 60)
    driver = shop.registry.driver
    assert isinstance(driver, ObjectDriver)
    left = [entry.key for entry in driver.bucket.list(driver.key(""))]
    assert [key for key in left if "/registries/" not in key] == []


def test_a_body_that_breaks_off_is_fetched_on_from_there(shop: Shop, way: Way) -> None:
    blob = os.urandom(3 * MB)
    shop.push_blob("team/app", blob)
    digits = sha(blob).partition(":")[2]
    path = f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"
    with shop.registry.driver.open(path) as content:
        way.become("cut", after=MB, left=2)
        found = bytearray()
        while piece := content.read(len(found), 65536):
            found += piece
    assert found == blob
