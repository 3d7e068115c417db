"""Scrubbing on each storage: what is damaged goes away, is mended by a push, and costs nothing."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.registry import paths
from sampan.registry.drivers.choice import open_objects
from sampan.registry.drivers.driver import ANYHOW
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.drivers.objects.swift import SwiftBucket
from sampan.registry.registry import Registry
from sampan.registry.upkeep.scrub import QUARANTINE, Finding
from sampan.spec.digest import Digest
from tests.object_storages import REMOTE, Storages, keys
from tests.own_registry import Shop, serving, sha

MB = 1 << 20
SMALLEST = {"s3": 5 * MB, "gcs": MB, "swift": MB, "oss": 5 * MB}  # chunks


@pytest.fixture(scope="module", params=REMOTE)
def place(request: pytest.FixtureRequest, storages: Storages) -> tuple[str, dict[str, Any]]:
    kind = str(request.param)
    chunk = {"chunksize": SMALLEST[kind]} if kind in SMALLEST else {}
    return kind, {**storages.place(kind), **chunk}


@pytest.fixture
def shop(place: tuple[str, dict[str, Any]], tmp_path: Path) -> Iterator[Shop]:
    with Registry.on_objects(open_objects(*place), tmp_path) as registry:
        with serving(registry) as found:
            yield found
        registry.driver.delete(["docker", "sampan/quarantine"], within=ANYHOW)


def damage(shop: Shop, digest: str, content: bytes) -> None:
    """Write other content in the place of a blob, behind the registry's back."""
    driver = shop.registry.driver
    assert isinstance(driver, ObjectDriver)
    driver.bucket.put(driver.key(paths.blob(Digest(digest))), io.BytesIO(content), len(content))


def flip(shop: Shop, digest: str, blob: bytes) -> bytes:
    """Damage one byte of a blob in the way that it is stored: in a segment, where it has some."""
    driver = shop.registry.driver
    assert isinstance(driver, ObjectDriver)
    key = driver.key(paths.blob(Digest(digest)))
    rotten = bytes([blob[0] ^ 1]) + blob[1:]
    if isinstance(driver.bucket, SwiftBucket):
        key = driver.bucket.large(key)[0]
        rotten = rotten[: driver.bucket.head(key).size]
    driver.bucket.put(key, io.BytesIO(rotten), len(rotten))
    return rotten


def scrub(shop: Shop, report_only: bool = False) -> list[Finding]:
    found: list[Finding] = []
    shop.registry.scrubber.scrub(0, time.time() + 1, found.append, report_only)
    return found


def quarantined(shop: Shop, digest: str) -> str:
    return f"{QUARANTINE}/sha256/{digest.partition(':')[2]}"


@pytest.mark.parametrize("how", ["content", "length", "missing"])
def test_a_damaged_blob_is_put_away_and_mended_by_a_push(shop: Shop, how: str) -> None:
    blob = os.urandom(1000)
    digest = shop.push_blob("team/app", blob)
    rotten = {"content": blob[::-1], "length": blob[:-1], "missing": b""}[how]
    if how == "missing":
        shop.registry.driver.delete([paths.blob(Digest(digest))], within=ANYHOW)
    else:
        damage(shop, digest, rotten)
    assert [finding.quarantined for finding in scrub(shop, report_only=True)] == [False]
    (finding,) = scrub(shop)
    assert (finding.digest, finding.repositories) == (digest, ("team/app",))
    for method in ("GET", "HEAD"):
        assert shop.ask(method, f"/v2/team/app/blobs/{digest}").status == 404
    if how != "missing":
        assert shop.registry.driver.read(quarantined(shop, digest)) == rotten
    assert shop.registry.driver.list(f"docker/registry/v2/blobs/sha256/{digest[7:9]}") == []
    assert scrub(shop) == []
    assert shop.push_blob("team/other", blob) == digest
    for name in ("app", "other"):
        assert shop.get(f"/v2/team/{name}/blobs/{digest}").body == blob


def test_a_large_blob_is_put_away_as_it_was_stored(shop: Shop) -> None:
    """Of several parts, or segments; and one that is put away a second time."""
    blob = os.urandom(11 * MB + 1)
    for _ in range(2):
        place = shop.begin("team/app")
        shop.ask("PATCH", place, [blob[n : n + MB] for n in range(0, len(blob), MB)])
        assert shop.ask("PUT", f"{place}?digest={sha(blob)}").status == 201
        assert scrub(shop) == []
        rotten = flip(shop, sha(blob), blob)
        (finding,) = scrub(shop)
        assert finding.quarantined
        assert shop.get(f"/v2/team/app/blobs/{sha(blob)}").status == 404
        away = shop.registry.driver.read(quarantined(shop, sha(blob)))
        assert away == rotten + blob[len(rotten) :]
    assert shop.push_blob("team/app", blob) == sha(blob)
    assert shop.get(f"/v2/team/app/blobs/{sha(blob)}").body == blob
    shop.ask("DELETE", f"/v2/team/app/blobs/{sha(blob)}")
    shop.registry.collector.collect(-1)
    shop.registry.driver.delete(["sampan/quarantine"], within=ANYHOW)
    assert isinstance(shop.registry.driver, ObjectDriver)
    left = keys(shop.registry.driver)
    assert [key for key in left if "/registries/" not in key] == []  # no segment of any of them


def test_a_damaged_manifest_is_unknown_and_costs_its_repository_nothing(shop: Shop) -> None:
    digest = shop.push("team/app", "1")
    content = shop.get("/v2/team/app/manifests/1").body
    damage(shop, digest, content[:-1] + b" ")
    (finding,) = scrub(shop)
    assert (finding.digest, finding.quarantined) == (digest, True)
    for reference in ("1", digest):
        assert shop.get(f"/v2/team/app/manifests/{reference}").status == 404
    shop.registry.collector.collect(-1, untagged=True)
    assert shop.get(f"/v2/team/app/blobs/{sha(b'layer')}").body == b"layer"
    assert shop.put("team/app", "1", content).status == 201
    assert shop.get("/v2/team/app/manifests/1").body == content
    assert scrub(shop) == []
