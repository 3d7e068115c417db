"""Registries that share a bucket and the rows of a PostgreSQL are one registry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sampan.registry.drivers.choice import open_objects
from sampan.registry.registry import Registry, Shared
from tests.object_storages import Storages
from tests.own_registry import Shop, serving, sha
from tests.postgres import postgres

MB = 1 << 20


@pytest.fixture
def pair(storages: Storages, tmp_path: Path) -> Iterator[tuple[Shop, Shop]]:
    place = {**storages.place("s3"), "chunksize": 5 * MB}
    with postgres() as server, ExitStack() as stack:
        address = server.database()

        def opened(worker: str) -> Shop:
            driver = open_objects("s3", place)
            shared = Shared(address, worker)
            registry = Registry.on_objects(driver, tmp_path / worker, shared=shared)
            stack.callback(registry.close)
            return stack.enter_context(serving(registry))

        yield opened("one"), opened("two")


def test_what_one_takes_the_other_has(pair: tuple[Shop, Shop]) -> None:
    one, two = pair
    blob = os.urandom(6 * MB)
    place = one.begin("team/app")
    assert one.ask("PATCH", place, blob[:100]).status == 202
    assert two.ask("PATCH", place, blob[100 : 5 * MB]).status == 202
    assert one.ask("PUT", f"{place}?digest={sha(blob)}", blob[5 * MB :]).status == 201
    assert two.get(f"/v2/team/app/blobs/{sha(blob)}").body == blob
    image = two.push("team/app", "1", [blob, b"small"])
    assert one.tags("team/app") == ["1"]
    two.push_blob("team/app", b"nobody needs it")
    collected = one.registry.collector.collect(-1)  # the other is no stranger
    assert collected.blobs == [sha(b"nobody needs it")]
    assert two.get(f"/v2/team/app/blobs/{sha(b'nobody needs it')}").status == 404
    assert one.ask("DELETE", f"/v2/team/app/manifests/{image}").status == 202
    assert two.get("/v2/team/app/manifests/1").status == 404
    assert sha(blob) in two.registry.collector.collect(-1).blobs
    assert one.get(f"/v2/team/app/blobs/{sha(blob)}").status == 404
