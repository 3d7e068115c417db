"""A registry whose disk is full says so, keeps all that it has, and goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.registry.registry import Registry
from tests.caching import caching
from tests.lying_registry import lying_registry
from tests.own_registry import Shop, serving, sha
from tests.remote_images import image, layer, push

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


def test_a_cache_whose_disk_is_full_says_so_and_goes_on_when_there_is_room(small: Path) -> None:
    large = image(layer(os.urandom(2 * ROOM), compression=""))
    fitting = image(layer(os.urandom(ROOM // 4), compression=""))
    with lying_registry() as liar, caching(liar, root=small) as cache:
        push(liar, "app", "fits", fitting)
        push(liar, "app", "large", large)
        blob = fitting.layers[0]
        assert cache.manifest("app", "fits").status == 200
        assert cache.blob("app", blob.digest).body == blob.content
        assert cache.manifest("app", "large").status == 200
        asking = cache.begin_to_ask("GET", f"/v2/app/blobs/{large.layers[0].digest}")
        with pytest.raises(OSError, match="No space"):
            asking.result()
        assert len(asking.answer.body) < 2 * ROOM
        assert cache.blob("app", blob.digest).body == blob.content
        uploads = cache.registry.driver.list("docker/registry/v2/repositories/app/_uploads")
        assert uploads == []
        with open(small / "ballast", "wb", buffering=0) as file:
            with pytest.raises(OSError, match="No space"):
                while True:
                    file.write(bytes(64 << 10))
        config = fitting.blobs[0] if fitting.blobs[0] is not blob else fitting.blobs[1]
        refused = cache.blob("app", config.digest)
        assert (refused.status, refused.code) in ((507, "UNAVAILABLE"), (503, "UNAVAILABLE"))
        (small / "ballast").unlink()
        assert cache.blob("app", config.digest).body == config.content
