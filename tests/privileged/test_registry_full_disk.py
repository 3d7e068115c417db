"""A registry whose disk is full says so, keeps all that it has, and goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.registry.registry import Registry
from tests.own_registry import Shop, serving, sha

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
