"""The registry as a program on S3: foreign clients, kills, and the bucket of a docker-registry."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.registries import DOCKERS, OURS, Registry, registry
from tests.remote_images import busybox, digest, index, push, small_layer
from tests.stores import moto, s3_bucket

pytestmark = [pytest.mark.compat, pytest.mark.slow]
MB = 1 << 20


@pytest.fixture(scope="module")
def site() -> Iterator[dict[str, Any]]:
    with moto() as options:
        yield options


@pytest.fixture
def storage(site: dict[str, Any]) -> dict[str, Any]:
    """The options of an empty bucket, with the least chunk."""
    return {"s3": {**s3_bucket(site), "rootdirectory": "/images", "chunksize": 5 * MB}}


def skopeo(*words: str | Path) -> str:
    command = ["skopeo", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def blob(hub: Registry, name: str) -> bytes:
    """Get a blob, from the storage if we are sent there."""
    command = ["curl", "-sSL", "--fail", f"{hub.url}/v2/{name}"]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


@pytest.mark.parametrize("passes", [False, True])
def test_skopeo_pushes_and_pulls(storage: dict[str, Any], tmp_path: Path, passes: bool) -> None:
    large = small_layer("large", os.urandom(6 * MB))
    shipped = index(busybox(architecture="amd64"), busybox(large, architecture="arm64"))
    objects = {**storage, "redirect": {"disable": passes}}
    with registry(program=OURS, objects=objects) as hub:
        push(hub, "skopeo/source", "1", shipped)
        source, there = (f"docker://{hub.address}/skopeo/{name}:1" for name in ("source", "app"))
        plain = ["--all", "--src-tls-verify=false"]
        skopeo("copy", *plain, "--dest-tls-verify=false", source, there)
        skopeo("copy", *plain, there, f"dir:{tmp_path}/out")
        assert digest((tmp_path / "out/manifest.json").read_bytes()) == shipped.digest
        assert _redirects(hub) != passes
        skopeo("delete", "--tls-verify=false", there)
        assert hub.tags("skopeo/app") == []


def _redirects(hub: Registry) -> bool:
    return any(access.status == 307 for access in hub.accesses("/blobs/"))


def test_an_upload_outlives_kills(storage: dict[str, Any]) -> None:
    content = os.urandom(13 * MB)
    with registry(program=OURS, objects=storage) as hub:
        place = hub.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
        path = place.removeprefix(hub.url)
        sent = 0
        for size in (7 * MB, 100, 2 * MB):
            answer = hub.ask("PATCH", path, content[sent : sent + size])
            assert answer.status == 202
            sent += size
            hub.restart()
            assert hub.ask("GET", path).headers["Range"] == f"0-{sent - 1}"
        answer = hub.ask("PUT", f"{path}?digest={digest(content)}", content[sent:])
        assert answer.status == 201
        assert blob(hub, f"a/blobs/{digest(content)}") == content
        hub.restart()
        assert blob(hub, f"a/blobs/{digest(content)}") == content
        hub.kill()
        command = [*OURS, "garbage-collect", hub.folder / "config.yml"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        assert f"blob eligible for deletion: {digest(content)}" in done.stdout
        hub.start()
        assert hub.ask("GET", f"/v2/a/blobs/{digest(content)}").status == 404


def test_parts_of_many_clients_take_no_memory(storage: dict[str, Any]) -> None:
    """16 clients have 64 parts of 5 MB under way: in memory they would be 320 MB."""
    content = os.urandom(26 * MB)

    def send(hub: Registry, number: int) -> str:
        place = hub.ask("POST", "/v2/a/blobs/uploads/").headers["Location"]
        blob = b"%d" % number + content
        path = f"{place.removeprefix(hub.url)}?digest={digest(blob)}"
        assert hub.ask("PUT", path, blob).status == 201
        return digest(blob)

    objects = {**storage, "redirect": {"disable": True}}
    with registry(program=OURS, objects=objects) as hub, ThreadPoolExecutor(16) as clients:
        blobs = list(clients.map(partial(send, hub), range(16)))
        assert _peak(hub) < 100 * MB
        paths = [f"/v2/a/blobs/{name}" for name in blobs]
        for found in clients.map(partial(hub.ask, "GET"), paths[:8]):
            assert len(found.body) > len(content)
        assert _peak(hub) < 100 * MB


def _peak(hub: Registry) -> int:
    assert hub.process
    text = Path(f"/proc/{hub.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found
    return int(found[1]) << 10


@pytest.mark.parametrize("program", DOCKERS)
def test_a_bucket_moves_between_docker_registry_and_ours(
    storage: dict[str, Any], monkeypatch: pytest.MonkeyPatch, program: tuple[str, ...]
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)  # docker-registry stumbles over it
    first, second = busybox(small_layer("one")), busybox(small_layer("two", os.urandom(11 * MB)))
    # Only 2.x finds out by itself where buckets are that are not Amazon's.
    theirs = {"s3": {**storage["s3"], "secure": False, "forcepathstyle": True}}
    with registry(program=program, objects=theirs) as hub:
        push(hub, "team/app", "old", first)
        push(hub, "team/large", "old", second)
    with registry(program=OURS, objects=storage) as hub:
        assert hub.tags("team/app") == ["old"]
        for part in second.layers:
            assert blob(hub, f"team/large/blobs/{part.digest}") == part.content
        push(hub, "team/new", "1", second)
        push(hub, "team/app", "new", busybox(small_layer("three", os.urandom(6 * MB))))
        catalog = json.loads(hub.ask("GET", "/v2/_catalog").body)
        assert catalog["repositories"] == ["team/app", "team/large", "team/new"]
    with registry(program=program, objects=theirs) as hub:
        assert hub.tags("team/app") == ["new", "old"]
        name = f"docker://{hub.address}/team"
        for image in ("app:new", "app:old", "new:1"):
            skopeo("inspect", "--tls-verify=false", f"{name}/{image}")
        for part in second.layers:
            assert blob(hub, f"team/new/blobs/{part.digest}") == part.content
