"""A registry whose disk is full says so, keeps all that it has, and goes on when there is room."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sampan.errors import Unavailable
from sampan.registry.content import blobs, manifests
from sampan.registry.drivers.choice import open_objects
from sampan.registry.observability.audit import Audited, AuditLog, verify
from sampan.registry.observability.notifications import Endpoint, Notifier
from sampan.registry.observability.outbox import Outbox
from sampan.registry.registry import Registry
from sampan.spec.image import MEDIA_MANIFEST
from tests.caching import caching, upstream
from tests.lying_registry import lying_registry
from tests.own_registry import Shop, manifest, serving, sha
from tests.remote_images import image, layer, push
from tests.stores import moto, s3_bucket

pytestmark = pytest.mark.privileged
ROOM = 8 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system with little room."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)]
    subprocess.run(command, check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def _fill(shop: Shop) -> list[bytes]:
    """Push images of 1 MB until there is no room; return those that were acknowledged."""
    pushed: list[bytes] = []
    while True:
        layer = os.urandom(1 << 20)
        place = shop.ask("POST", "/v2/a/blobs/uploads/")
        if place.status != 202:
            break
        path = place.header("location").removeprefix("http://registry.test")
        answer = shop.ask("PUT", f"{path}?digest={sha(layer)}", layer)
        if answer.status != 201:
            assert (answer.status, answer.code) == (507, "UNAVAILABLE")
            break
        pushed.append(layer)
    assert 0 < len(pushed) < 16
    return pushed


def test_a_full_disk_is_told_and_costs_nothing(small: Path) -> None:
    with Registry.on_filesystem(str(small)) as registry, serving(registry) as shop:
        digest = shop.push("a", "1")
        pushed = _fill(shop)
        body = shop.get("/v2/a/manifests/1").body
        for number in range(200):  # until the last bytes are gone too
            if shop.put("a", f"t{number}", body).status != 201:
                break
        for layer in pushed:
            assert shop.get(f"/v2/a/blobs/{sha(layer)}").body == layer
        assert shop.get("/v2/a/manifests/1").header("docker-content-digest") == digest
        # What was begun and cannot end gives its room back, and so does what nobody needs.
        for upload in registry.driver.list("docker/registry/v2/repositories/a/_uploads"):
            assert shop.ask("DELETE", f"/v2/a/blobs/uploads/{upload}").status == 204
        registry.collector.collect(-1)
        assert shop.push("a", "2", [os.urandom(1 << 20)])
    with Registry.on_filesystem(str(small)) as registry, serving(registry) as shop:
        assert {"1", "2"} <= set(shop.tags("a"))
        assert shop.get(f"/v2/a/blobs/{sha(b'layer')}").body == b"layer"


@contextmanager
def full(place: Path) -> Iterator[None]:
    """Take all the room that is left."""
    with open(place / "ballast", "wb", buffering=0) as file:
        for size in (64 << 10, 1):
            with pytest.raises(OSError, match="No space"):
                while True:
                    file.write(bytes(size))
    yield
    (place / "ballast").unlink()


def test_each_phase_of_a_push_is_told_and_goes_on_when_there_is_room(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "TOUCH_SECONDS", -1)  # each look is noted
    monkeypatch.setattr(manifests, "TOUCH_SECONDS", -1)
    blob = os.urandom(300_000)
    with Registry.on_filesystem(str(small)) as registry, serving(registry) as shop:
        digest = shop.push("a", "1")
        body = shop.get("/v2/a/manifests/1").body
        begun = shop.begin("a")
        received = shop.begin("a")
        assert shop.ask("PATCH", received, blob).status == 202
        with full(small):
            for method, url, content in (
                ("POST", "/v2/a/blobs/uploads/", b""),
                ("PATCH", begun, blob),
                ("PUT", f"{received}?digest={sha(blob)}", b""),  # its links and rows
                ("PUT", "/v2/a/manifests/2", body.replace(b"{", b"{ ", 1)),
                ("PUT", "/v2/b/manifests/1", body),
            ):
                answer = shop.ask(method, url, content, {"Content-Type": MEDIA_MANIFEST})
                assert answer.code in ("UNAVAILABLE", "MANIFEST_BLOB_UNKNOWN"), (method, url)
                assert answer.status in (507, 400)
                assert shop.get("/v2/a/manifests/1").body == body
                for verb in ("HEAD", "GET"):
                    assert shop.ask(verb, f"/v2/a/blobs/{sha(b'layer')}").status == 200
            assert shop.get(f"/v2/a/blobs/{sha(blob)}").status == 404
            assert shop.tags("a") == ["1"]
        assert shop.get("/v2/a/manifests/1").header("docker-content-digest") == digest
        offset = int(shop.get(begun).header("range").partition("-")[2]) + 1
        start = offset if offset > 1 else 0
        assert shop.ask("PATCH", begun, blob[start:]).status == 202
        assert shop.ask("PUT", f"{begun}?digest={sha(blob)}").status == 201
        assert shop.ask("PUT", f"{received}?digest={sha(blob)}").status == 201
        assert shop.get(f"/v2/a/blobs/{sha(blob)}").body == blob
        assert shop.push("a", "2", [blob])


def test_events_and_records_wait_for_room_and_nobody_else_does(
    small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The rows and files have room; only what is told of them has none."""
    endpoint = Endpoint("nobody", "http://127.0.0.1:1/")
    notifier = Notifier(small / "notifications.db", [endpoint])
    audit = AuditLog(small / "audit.log")
    with Registry.on_filesystem(str(tmp_path / "data")) as registry:
        with serving(registry, emit=notifier) as shop:
            audited = Audited(shop.application, audit)
            shop = Shop(audited)  # type: ignore[arg-type]
            digest = shop_push(shop, "1")
            with full(small):
                for number in range(40):
                    assert shop_push(shop, f"full-{number}") == digest
                    assert shop.get("/v2/a/manifests/1").status == 200
                assert shop.ask("DELETE", "/v2/a/manifests/full-0").status == 202
            assert shop_push(shop, "2") == digest
    waiting = notifier._outbox.waiting("nobody")
    notifier.close()
    audit.close()
    assert "the audit log is not written" in caplog.text
    assert "events wait in memory" in caplog.text
    with contextlib.closing(Outbox(small / "notifications.db")) as outbox:
        assert outbox.waiting("nobody") == waiting > 80
    assert list(verify([small / "audit.log"])) == []
    first, *_, last = (small / "audit.log").read_text().splitlines()
    assert json.loads(first)["action"] == "push blob"
    assert (json.loads(last)["action"], json.loads(last)["reference"]) == ("push", "2")


def shop_push(shop: Shop, tag: str) -> str:
    """Push an image without a look at anything but answers."""
    for content in (b"layer", b"{}"):
        place = shop.begin("a")
        assert shop.ask("PUT", f"{place}?digest={sha(content)}", content).status == 201
    body = manifest([sha(b"layer")], [b"layer"])
    assert shop.put("a", tag, body).status == 201
    return sha(body)


def test_a_cache_whose_disk_is_full_passes_on_and_keeps_when_there_is_room(small: Path) -> None:
    content = os.urandom(2 * ROOM)
    large = image(layer(content, compression=""))
    fitting = image(layer(os.urandom(ROOM // 4), compression=""))
    with lying_registry() as liar, caching(liar, root=small) as cache:
        push(liar, "app", "fits", fitting)
        push(liar, "app", "large", large)
        push(liar, "app", "later", fitting)
        blob = fitting.layers[0]
        assert cache.manifest("app", "fits").status == 200
        assert cache.blob("app", blob.digest).body == blob.content
        # It fills amid the blob: what was stored comes from there, the rest by memory.
        assert cache.manifest("app", "large").status == 200
        path = f"/v2/app/blobs/{large.layers[0].digest}"
        asking = [cache.begin_to_ask("GET", path) for _ in range(2)]
        ranged = cache.begin_to_ask("GET", path, {"Range": f"bytes={ROOM}-{ROOM + 9}"})
        assert [one.result().body == content for one in asking] == [True, True]
        assert ranged.result().body == content[ROOM : ROOM + 10]
        assert cache.blob("app", blob.digest).body == blob.content
        uploads = cache.registry.driver.list("docker/registry/v2/repositories/app/_uploads")
        assert uploads == []
        with full(small):
            for part in fitting.blobs:
                assert cache.blob("app", part.digest).body == part.content
            assert cache.blob("app", large.layers[0].digest).body == content
            answer = cache.manifest("app", "later")
            assert sha(answer.body) == answer.header("docker-content-digest") == fitting.digest
            assert cache.manifest("app", fitting.digest).body == answer.body
        liar.log.lines.clear()
        for _ in range(2):
            for part in fitting.blobs:
                assert cache.blob("app", part.digest).body == part.content
            assert cache.manifest("app", "later").body == answer.body
        gets = [line for line in liar.log.lines if line[0] == "GET"]
        assert len(gets) == len(set(gets))  # each came once, and stays


def test_a_full_folder_of_parts_is_told_and_costs_only_what_was_not_acknowledged(
    small: Path,
) -> None:
    """Parts of uploads to a bucket wait on this machine."""
    blob = os.urandom(6 << 20)  # two parts, which find room at once
    content = os.urandom(2 * ROOM)
    large = image(layer(content, compression=""))
    with moto() as options, lying_registry() as liar:
        driver = open_objects("s3", {**s3_bucket(options), "chunksize": 5 << 20})
        push(liar, "app", "1", large)
        registry = Registry.on_objects(driver, small)
        with caching(upstream(liar, prefix="hub/"), registry=registry) as cache:
            image_digest = cache.push("a", "1")
            place = cache.begin("a")
            assert cache.ask("PATCH", place, blob[:1000]).status == 202
            with full(small):
                answer = cache.ask("PATCH", place, [blob[1000 : 4 << 20], blob[4 << 20 :]])
                assert (answer.status, answer.code) == (507, "UNAVAILABLE")
                answer = cache.get("/v2/a/manifests/1")
                assert answer.header("docker-content-digest") == image_digest
                assert cache.get(f"/v2/a/blobs/{sha(b'layer')}").body == b"layer"
                assert cache.manifest("hub/app", "1").status == 200
                assert cache.blob("hub/app", large.layers[0].digest).body == content
            offset = int(cache.get(place).header("range").partition("-")[2]) + 1
            assert offset >= 1000
            assert cache.ask("PATCH", place, blob[offset:]).status == 202
            assert cache.ask("PUT", f"{place}?digest={sha(blob)}").status == 201
            assert cache.get(f"/v2/a/blobs/{sha(blob)}").body == blob


def test_a_start_on_a_full_disk_is_refused_with_one_sentence(small: Path) -> None:
    with Registry.on_filesystem(str(small)) as registry, serving(registry) as shop:
        digest = shop.push("a", "1")
    with full(small), pytest.raises(Unavailable, match=r"registry\.db cannot be used: "):
        Registry.on_filesystem(str(small))
    with Registry.on_filesystem(str(small)) as registry, serving(registry) as shop:
        assert shop.get("/v2/a/manifests/1").header("docker-content-digest") == digest
