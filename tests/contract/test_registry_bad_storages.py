"""Storages that are away, fail, break off or lie: the registry says so, and recovers by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sampan.errors import Unavailable
from sampan.registry.drivers.choice import open_objects
from sampan.registry.drivers.objects import s3
from sampan.registry.observability.health import Check, outcome
from sampan.registry.registry import Registry
from tests.flaky import Way, flaky
from tests.object_storages import Storages
from tests.own_registry import Shop, serving, sha

MB = 1 << 20


@pytest.fixture
def options(storages: Storages, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(s3, "TRIES", 2)
    return {**storages.place("s3"), "chunksize": 5 * MB, "multipartcopythresholdsize": 0}


@pytest.fixture
def way(options: dict[str, Any]) -> Iterator[Way]:
    port = urlsplit(options["regionendpoint"]).port
    assert port
    with flaky(port) as found:
        yield found


@pytest.fixture
def shop(way: Way, options: dict[str, Any], tmp_path: Path) -> Iterator[Shop]:
    """A registry that reaches its storage by the flaky way."""
    driver = open_objects("s3", {**options, "regionendpoint": f"http://127.0.0.1:{way.port}"})
    with Registry.on_objects(driver, tmp_path) as registry, serving(registry) as found:
        yield found


@pytest.mark.parametrize("mood", ["away", "refuse"])
def test_a_storage_that_is_away_is_told_and_comes_back(shop: Shop, way: Way, mood: str) -> None:
    image = shop.push("team/app", "1")
    place = shop.begin("team/app")
    shop.ask("PATCH", place, b"before")
    way.become(mood)
    for method, url in (
        ("GET", f"/v2/team/app/blobs/{sha(b'layer')}"),
        ("GET", "/v2/team/app/manifests/1"),
        ("POST", "/v2/team/app/blobs/uploads/"),
        ("GET", place),
        ("DELETE", f"/v2/team/app/manifests/{image}"),
    ):
        answer = shop.ask(method, url)
        assert (answer.status, answer.code) == (503, "UNAVAILABLE"), url
        assert "s3: " in answer.json["errors"][0]["message"]
    assert shop.ask("PATCH", place, b"lost").status == 503
    assert shop.ask("PUT", f"{place}?digest={sha(b'before')}").status == 503
    assert outcome(Check("storage", shop.registry.driver.check))
    assert shop.tags("team/app") == ["1"]
    way.become("good")
    assert not outcome(Check("storage", shop.registry.driver.check))
    assert shop.get("/v2/team/app/manifests/1").header("docker-content-digest") == image
    assert shop.get(place).header("range") == "0-5"
    assert shop.ask("PATCH", place, b" and after").status == 202
    blob = b"before and after"
    assert shop.ask("PUT", f"{place}?digest={sha(blob)}").status == 201
    assert shop.get(f"/v2/team/app/blobs/{sha(blob)}").body == blob


def test_a_start_without_the_storage_fails_with_one_sentence(
    way: Way, options: dict[str, Any], tmp_path: Path
) -> None:
    way.become("away")
    given = {**options, "regionendpoint": f"http://127.0.0.1:{way.port}"}
    with pytest.raises(Unavailable, match=r"^s3://\S+ cannot be used: s3: "):
        Registry.on_objects(open_objects("s3", given), tmp_path)
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        Registry.on_objects(open_objects("s3", {**options, "bucket": "none"}), tmp_path)


def test_a_body_that_breaks_off_is_fetched_on_from_there(shop: Shop, way: Way) -> None:
    blob = os.urandom(3 * MB)
    shop.push_blob("team/app", blob)
    way.become("good")
    with shop.registry.driver.open(_path(blob)) as content:
        way.become("cut", after=MB, left=2)
        found = bytearray()
        while piece := content.read(len(found), 65536):
            found += piece
    assert found == blob
    assert way.mood.left == 0


def test_a_storage_that_lies_about_lengths_is_not_believed(shop: Shop, way: Way) -> None:
    blob = os.urandom(2 * MB)
    shop.push_blob("team/app", blob)
    shop.registry.driver.write([(_path(blob), blob[:-1])])  # behind our back
    answer = shop.get(f"/v2/team/app/blobs/{sha(blob)}")
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    assert "another length" in answer.json["errors"][0]["message"]
    with shop.registry.driver.open(_path(blob)) as content:
        assert content.read(0, 65536)
        way.become("cut", after=100)  # so there is nothing but a promise of more
        with pytest.raises(OSError, match="s3: "):
            content.read(MB, 65536)
    way.become("good")
    assert shop.push_blob("team/app", blob) == sha(blob)  # and mends it
    assert shop.get(f"/v2/team/app/blobs/{sha(blob)}").body == blob


def test_a_join_that_fails_can_be_tried_again_and_leaves_nothing(
    shop: Shop, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = os.urandom(11 * MB)
    place = shop.begin("team/app")
    shop.ask("PATCH", place, [blob[n : n + MB] for n in range(0, len(blob), MB)])
    bucket: Any = shop.registry.driver.bucket  # type: ignore[attr-defined]

    def fail(self: s3.S3Join) -> None:
        raise OSError("s3: SlowDown: later")

    with monkeypatch.context() as patched:
        patched.setattr(s3.S3Join, "publish", fail)
        answer = shop.ask("PUT", f"{place}?digest={sha(blob)}")
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
    assert not bucket.client.list_multipart_uploads(Bucket=bucket.bucket).get("Uploads")
    assert shop.get(f"/v2/team/app/blobs/{sha(blob)}").status == 404
    assert shop.get(place).header("range") == f"0-{len(blob) - 1}"
    assert shop.ask("PUT", f"{place}?digest={sha(blob)}").status == 201
    assert shop.get(f"/v2/team/app/blobs/{sha(blob)}").body == blob


def test_blobs_are_kept_as_the_options_say(options: dict[str, Any], tmp_path: Path) -> None:
    given = {**options, "encrypt": True, "keyid": "key", "storageclass": "STANDARD_IA"}
    driver = open_objects("s3", given)
    with Registry.on_objects(driver, tmp_path) as registry, serving(registry) as shop:
        bucket: Any = driver.bucket
        for blob in (b"", b"small", os.urandom(6 * MB)):  # one part, and several
            shop.push_blob("team/app", blob)
            found = bucket.client.head_object(Bucket=bucket.bucket, Key=_path(blob))
            assert found["ServerSideEncryption"] == "aws:kms"
            assert found["SSEKMSKeyId"].endswith("key")
            assert found["StorageClass"] == "STANDARD_IA"
            assert shop.get(f"/v2/team/app/blobs/{sha(blob)}").body == blob


def _path(blob: bytes) -> str:
    digits = sha(blob).partition(":")[2]
    return f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"
