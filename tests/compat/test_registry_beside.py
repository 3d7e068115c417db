"""A docker-registry and ours at once on one data directory or bucket: each has what both took."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.registries import DEBIANS, DOCKERS, OURS, Registry, registry
from tests.remote_images import Image, busybox, demand_whole, push, small_layer
from tests.session import eventually
from tests.stores import moto, s3_bucket

pytestmark = [pytest.mark.compat, pytest.mark.slow]
Program = tuple[str, ...]
OFTEN = {"maintenance": {"beside": {"interval": "100ms"}}}
MB = 1 << 20


@contextmanager
def both(
    tmp_path: Path, theirs: Program, objects: dict[str, Any] | None = None
) -> Iterator[tuple[Registry, Registry]]:
    """Run the two on one storage; ours looks often."""
    place: dict[str, Any] = {} if objects else {"storage": tmp_path / "storage"}
    mine = {"objects": {**objects, **OFTEN}} if objects else {"more": {"storage": OFTEN}}
    other = {}
    if objects:
        theirs_too = {**objects["s3"], "secure": False, "forcepathstyle": True}
        other["objects"] = {**objects, "s3": theirs_too}
    with (
        registry(program=theirs, **place, **other) as docker,
        registry(program=OURS, **place, **mine) as ours,
    ):
        yield docker, ours


def image(number: int, size: int = 100) -> Image:
    return busybox(small_layer(f"{number}", os.urandom(size)))


def story(docker: Registry, ours: Registry) -> None:
    """Push, move and delete at the one and look at the other."""
    first, second, third = image(1), image(2), image(3, 6 * MB)
    push(docker, "team/app", "1", first)
    demand_whole(ours, "team/app", "1", first.digest)  # at once
    assert ours.tags("team/app") == ["1"]
    push(docker, "team/app", "2", second)
    demand_whole(ours, "team/app", "2", second.digest)
    push(ours, "team/app", "mine", third)
    demand_whole(docker, "team/app", "mine", third.digest)
    push(docker, "team/app", "1", third)
    eventually(lambda: _digest(ours, "team/app", "1") == third.digest)
    docker.ask("DELETE", f"/v2/team/app/manifests/{second.digest}")
    eventually(lambda: "2" not in ours.tags("team/app"))
    assert ours.ask("GET", f"/v2/team/app/manifests/{second.digest}").status == 404
    push(docker, "new/app", "1", first)
    eventually(lambda: "new/app" in ours.ask("GET", "/v2/_catalog").json["repositories"])


def _digest(hub: Registry, name: str, tag: str) -> str:
    return str(hub.ask("GET", f"/v2/{name}/manifests/{tag}").headers["Docker-Content-Digest"])


@pytest.mark.parametrize("program", DOCKERS)
def test_on_one_data_directory(tmp_path: Path, program: Program) -> None:
    with both(tmp_path, program) as (docker, ours):
        story(docker, ours)


def test_in_one_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)  # docker-registry stumbles over it
    with moto() as options:
        bucket = {**s3_bucket(options), "rootdirectory": "/images", "chunksize": 5 * MB}
        objects = {"s3": bucket, "redirect": {"disable": True}}
        with both(tmp_path, DEBIANS, objects) as (docker, ours):
            story(docker, ours)
