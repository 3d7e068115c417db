"""Pushes to a registry that does what it is told, from a store without file systems."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.engine.images.distribution.transfers import TransferLimits
from sampan.errors import InvalidArgument, NotFound, Unauthorized, Upstream
from sampan.spec import image as media
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from tests import lying_registry as lies
from tests import remote_images as remote
from tests import tarballs
from tests.image_shop import Shop, stream
from tests.lying_registry import Answer, Handler, LyingRegistry
from tests.remote_images import image, index, layer, small_layer
from tests.session import PATIENCE
from tests.transfers import messages, pull, push, short, soon, with_shop

BASE, MIDDLE, TOP = (small_layer(name) for name in ("base", "middle", "top"))


@pytest.fixture
def liar() -> Iterator[LyingRegistry]:
    with lies.lying_registry() as registry:
        yield registry


@pytest.fixture
def other() -> Iterator[LyingRegistry]:
    with lies.lying_registry() as registry:
        yield registry


async def made(shop: Shop, name: str, content: bytes = b"content") -> str:
    """Make an image here; return its id."""
    archive = tarballs.archive(tarballs.file("f", content))
    return await shop.images.import_(stream(archive), Reference.parse(name))


async def tag(shop: Shop, name: str, other: str) -> None:
    repository, _, tag = other.rpartition(":")
    await shop.images.tag(name, repository, tag)


def manifest(registry: LyingRegistry, repository: str, reference: str) -> Any:
    return json.loads(registry.manifests[repository][reference][1])


def digest_of(registry: LyingRegistry, repository: str, reference: str) -> str:
    return remote.digest(registry.manifests[repository][reference][1])


# --- images that were made here --------------------------------------------------------------


def test_a_large_layer_whose_upload_is_lost_is_sent_again(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    def forget(handler: Handler, answer: Answer) -> None:
        liar.uploads.clear()
        handler.hang_up()

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await made(shop, name, os.urandom(8_000_000))
        liar.lie("PATCH", "", forget, times=1)
        said = await push(shop, name)
        assert said[-1].startswith("v1: digest: ")
        assert liar.log.count("PATCH") == 2

    with_shop(tmp_path / "shop", work)


def test_an_image_of_ours_becomes_a_manifest_of_schema_2(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img"
        made_id = await made(shop, f"{name}:v1")
        said = await push(shop, f"{name}:v1")
        kind, content = liar.manifests["a/img"]["v1"]
        assert kind == media.MEDIA_DOCKER_MANIFEST
        assert content.startswith(b'{\n   "schemaVersion": 2,\n   "mediaType": ')
        found = json.loads(content)
        assert found["config"]["digest"] == made_id
        assert found["config"]["mediaType"] == media.MEDIA_DOCKER_CONFIG
        (only,) = found["layers"]
        assert only["mediaType"] == media.MEDIA_DOCKER_LAYER_GZIP
        blob = liar.blobs["a/img"][only["digest"]]
        diff_id = shop.images.store.images[made_id].config.diff_ids[0]
        assert remote.digest(gzip.decompress(blob)) == diff_id
        pushed = remote.digest(content)
        assert said == [
            f"The push refers to repository [{name}]",
            f"{short(diff_id)}: Preparing",
            f"{short(diff_id)}: Pushed",
            f"v1: digest: {pushed} size: {len(content)}",
        ]
        assert (await shop.images.inspect(f"{name}:v1")).repo_digests == [f"{name}@{pushed}"]
        assert shop.events[-1] == ("push", name)

    with_shop(tmp_path, work)


def test_programs_are_told_tag_digest_and_size(liar: LyingRegistry, tmp_path: Path) -> None:
    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await made(shop, name)
        aux = [m.aux async for m in messages(shop, "push", name, "", None) if m.aux is not None]
        content = liar.manifests["a/img"]["v1"][1]
        assert aux == [{"Tag": "v1", "Digest": remote.digest(content), "Size": len(content)}]

    with_shop(tmp_path, work)


def test_the_same_image_has_the_same_digest_whenever_and_wherever_it_is_pushed(
    liar: LyingRegistry, other: LyingRegistry, tmp_path: Path
) -> None:
    async def work(shop: Shop) -> None:
        for registry in (liar, other):
            name = f"{registry.address}/a/img:v1"
            if registry is liar:
                await made(shop, name, b"x" * 3_000_000)
            else:
                await tag(shop, f"{liar.address}/a/img:v1", name)
                shop.images.store.layers._sources.clear()  # as if it had been forgotten
            await push(shop, name)
        assert digest_of(liar, "a/img", "v1") == digest_of(other, "a/img", "v1")

    with_shop(tmp_path, work)


def test_what_is_there_costs_one_request_a_blob(liar: LyingRegistry, tmp_path: Path) -> None:
    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await made(shop, name)
        await push(shop, name)
        liar.log.clear()
        said = await push(shop, name)
        assert said[2].endswith(": Layer already exists")
        assert sorted(method for method, _ in liar.log.lines) == ["HEAD", "HEAD", "PUT"]

    with_shop(tmp_path, work)


def test_a_layer_that_lies_in_another_repository_is_mounted(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await made(shop, name)
        await push(shop, name)
        await tag(shop, name, f"{liar.address}/b/img:v1")
        liar.log.clear()
        said = await push(shop, f"{liar.address}/b/img:v1")
        assert said[2].endswith(": Mounted from a/img")
        assert liar.log.count("PUT", "/blobs/") == 1  # the configuration
        assert digest_of(liar, "b/img", "v1") == digest_of(liar, "a/img", "v1")

    with_shop(tmp_path, work)


def test_where_mounting_is_refused_the_layer_is_uploaded(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await made(shop, name)
        await push(shop, name)
        await tag(shop, name, f"{liar.address}/b/img:v1")
        liar.mounts = False
        said = await push(shop, f"{liar.address}/b/img:v1")
        assert said[2].endswith(": Pushed")
        assert digest_of(liar, "b/img", "v1") == digest_of(liar, "a/img", "v1")

    with_shop(tmp_path, work)


def test_without_a_tag_all_tags_are_pushed(liar: LyingRegistry, tmp_path: Path) -> None:
    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img"
        await made(shop, f"{name}:v1")
        await tag(shop, f"{name}:v1", f"{name}:v2")
        said = await push(shop, name)
        assert [line.partition(" ")[0] for line in said if " size: " in line] == ["v1:", "v2:"]
        assert sum(line.endswith(": Layer already exists") for line in said) == 1
        assert set(liar.manifests["a/img"]) >= {"v1", "v2"}

    with_shop(tmp_path, work)


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("a/nope:v1", NotFound, "An image does not exist locally with the tag: {}/a/nope"),
        ("a/nope", NotFound, "An image does not exist locally with the tag: {}/a/nope"),
        ("a/img:v2", NotFound, "tag does not exist: {}/a/img:v2"),
        ("a/img@sha256:" + "0" * 64, InvalidArgument, "cannot push a digest reference"),
    ],
)
def test_what_cannot_be_pushed_is_named_in_dockers_words(
    liar: LyingRegistry, tmp_path: Path, name: str, kind: type[Exception], sentence: str
) -> None:
    async def work(shop: Shop) -> None:
        await made(shop, f"{liar.address}/a/img:v1")
        with pytest.raises(kind, match=re.escape(sentence.format(liar.address))):
            await push(shop, f"{liar.address}/{name}")
        assert liar.log.lines == []

    with_shop(tmp_path, work)


# --- images that came from elsewhere ---------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
@pytest.mark.parametrize("oci", [True, False])
def test_a_pulled_image_is_pushed_with_the_same_digest(
    liar: LyingRegistry, other: LyingRegistry, tmp_path: Path, compression: str, oci: bool
) -> None:
    plain = tarballs.archive(tarballs.file("f", b"x" * 100_000))
    what = image(layer(plain, compression, oci=oci or compression == "zstd"), oci=oci)
    remote.push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        await tag(shop, f"{liar.address}/a/img:v1", f"{other.address}/b/img:v1")
        said = await push(shop, f"{other.address}/b/img:v1")
        assert digest_of(other, "b/img", "v1") == what.digest
        assert said[-1].startswith(f"v1: digest: {what.digest} size: ")

    with_shop(tmp_path, work)


def test_an_image_without_layers_comes_and_goes(
    liar: LyingRegistry, other: LyingRegistry, tmp_path: Path
) -> None:
    what = image(Env=["EMPTY=1"])
    remote.push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        await tag(shop, f"{liar.address}/a/img:v1", f"{other.address}/b/img:v1")
        await push(shop, f"{other.address}/b/img:v1")
        assert digest_of(other, "b/img", "v1") == what.digest

    with_shop(tmp_path, work)


def test_an_image_of_sha512_stays_one(
    liar: LyingRegistry, other: LyingRegistry, tmp_path: Path
) -> None:
    what = image(BASE, TOP, algorithm="sha512")
    remote.push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        await shop.images.collect()
        await tag(shop, f"{liar.address}/a/img:v1", f"{other.address}/b/img:v1")
        await push(shop, f"{other.address}/b/img:v1")
        assert other.manifests["b/img"]["v1"][1] == what.manifest.content
        assert what.config.digest in other.blobs["b/img"]

    with_shop(tmp_path, work)


def test_where_the_other_repository_is_closed_the_layer_is_uploaded(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await made(shop, name)
        await push(shop, name)
        await tag(shop, name, f"{liar.address}/b/img:v1")
        liar.lie("POST", "mount=", lies.status(403, "DENIED"))
        said = await push(shop, f"{liar.address}/b/img:v1")
        assert said[2].endswith(": Pushed")

    with_shop(tmp_path, work)


def test_a_layer_that_is_nowhere_any_more_is_pushed_in_a_form_of_our_own(
    liar: LyingRegistry, other: LyingRegistry, tmp_path: Path
) -> None:
    what = image(BASE, oci=True)
    remote.push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        await tag(shop, f"{liar.address}/a/img:v1", f"{other.address}/b/img:v1")
        liar.blobs["a/img"].clear()
        said = await push(shop, f"{other.address}/b/img:v1")
        assert any("the digest will be another one" in line for line in said)
        found = manifest(other, "b/img", "v1")
        assert found["mediaType"] == media.MEDIA_MANIFEST
        assert found["config"]["digest"] == what.id
        assert digest_of(other, "b/img", "v1") != what.digest
        await pull(shop, f"{other.address}/b/img:v1")

    with_shop(tmp_path, work)


def test_foreign_layers_stay_where_they_are(
    liar: LyingRegistry, other: LyingRegistry, tmp_path: Path
) -> None:
    foreign = layer(
        tarballs.archive(tarballs.file("f", b"licensed")),
        media_type=remote.FOREIGN,
        extra={"urls": ["https://layers.example.invalid/1"]},
    )
    what = image(foreign, TOP)
    remote.push(liar, "a/img", "v1", what)
    remote.upload(liar, "a/img", foreign)

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        await tag(shop, f"{liar.address}/a/img:v1", f"{other.address}/b/img:v1")
        said = await push(shop, f"{other.address}/b/img:v1")
        assert f"{short(foreign.diff_id)}: Skipped foreign layer" in said
        assert digest_of(other, "b/img", "v1") == what.digest
        assert foreign.digest not in other.blobs["b/img"]

    with_shop(tmp_path, work)


def platforms() -> Any:
    host = image(BASE, TOP, architecture=Platform.host().architecture)
    arm = image(MIDDLE, architecture="arm64", variant="v8")
    return host, arm, index(host, arm)


def test_an_index_is_pushed_with_all_its_platforms(
    liar: LyingRegistry, other: LyingRegistry, tmp_path: Path
) -> None:
    host, arm, whole = platforms()
    remote.push(liar, "a/img", "v1", whole)

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await pull(shop, name)
        await pull(shop, name, "linux/arm64")
        await tag(shop, name, f"{other.address}/b/img:v1")
        await push(shop, f"{other.address}/b/img:v1")
        assert digest_of(other, "b/img", "v1") == whole.digest
        assert {host.digest, arm.digest} <= set(other.manifests["b/img"])

    with_shop(tmp_path, work)


def test_an_index_goes_back_where_its_other_platforms_are_already(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    _, _, whole = platforms()
    remote.push(liar, "a/img", "v1", whole)

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await pull(shop, name)
        await tag(shop, name, f"{liar.address}/a/img:v2")
        await push(shop, f"{liar.address}/a/img:v2")
        assert digest_of(liar, "a/img", "v2") == whole.digest

    with_shop(tmp_path, work)


def test_of_an_index_that_is_here_in_part_the_platform_of_this_machine_is_pushed(
    liar: LyingRegistry, other: LyingRegistry, tmp_path: Path
) -> None:
    host, _, whole = platforms()
    remote.push(liar, "a/img", "v1", whole)

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await pull(shop, name)
        await tag(shop, name, f"{other.address}/b/img:v1")
        told = messages(shop, "push", f"{other.address}/b/img:v1", "", None)
        aux = [m.aux async for m in told if m.aux is not None]
        assert digest_of(other, "b/img", "v1") == host.digest
        assert aux[0]["Digest"] == host.digest
        assert aux[1]["manifestPushedInsteadOfIndex"] is True
        assert aux[1]["originalIndex"].digest == whole.digest
        assert aux[1]["selectedManifest"].digest == host.digest

    with_shop(tmp_path, work)


def test_one_platform_of_an_index_can_be_pushed_alone(
    liar: LyingRegistry, other: LyingRegistry, tmp_path: Path
) -> None:
    _, arm, whole = platforms()
    remote.push(liar, "a/img", "v1", whole)

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await pull(shop, name)
        await pull(shop, name, "linux/arm64")
        await tag(shop, name, f"{other.address}/b/img:v1")
        await push(shop, f"{other.address}/b/img:v1", "linux/arm64")
        assert digest_of(other, "b/img", "v1") == arm.digest
        with pytest.raises(NotFound, match="does not match the specified platform"):
            await push(shop, f"{other.address}/b/img:v1", "linux/riscv64")

    with_shop(tmp_path, work)


# --- bad days --------------------------------------------------------------------------------


def test_what_the_registry_refuses_is_told_in_its_words(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await made(shop, name)
        liar.lie("POST", "/blobs/uploads/", lies.status(401, "UNAUTHORIZED", "who are you"))
        with pytest.raises(Unauthorized, match="who are you"):
            await push(shop, name)
        liar.be_honest()
        liar.lie("PUT", "/manifests/", lies.status(400, "MANIFEST_INVALID", "not today"))
        with pytest.raises((InvalidArgument, Upstream), match="not today"):
            await push(shop, name)
        assert (await shop.images.inspect(name)).repo_digests == []

    with_shop(tmp_path, work)


def test_a_cancelled_push_stops_at_once_and_the_next_one_succeeds(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await made(shop, name)
        liar.lie("POST", "/blobs/uploads/", lies.mute, times=1)
        pushing = asyncio.ensure_future(push(shop, name))
        await soon(lambda: liar.log.count("POST") == 1)
        pushing.cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([pushing])
        liar.be_honest()
        await push(shop, name)
        assert "v1" in liar.manifests["a/img"]

    with_shop(tmp_path, work)


def test_a_push_stops_at_once_while_the_registry_that_it_passes_on_from_is_silent(
    liar: LyingRegistry, other: LyingRegistry, tmp_path: Path
) -> None:
    remote.push(liar, "a/img", "v1", image(BASE))

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        await tag(shop, f"{liar.address}/a/img:v1", f"{other.address}/b/img:v1")
        liar.lie("GET", "/blobs/", lies.mute)
        fetched = liar.log.count("GET")
        pushing = asyncio.ensure_future(push(shop, f"{other.address}/b/img:v1"))
        await soon(lambda: liar.log.count("GET") > fetched)
        pushing.cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([pushing])

    with_shop(tmp_path, work)


def test_no_more_layers_are_pushed_at_once_than_allowed(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    what = image(*(small_layer(str(number)) for number in range(4)))
    remote.push(liar, "a/img", "v1", what)
    go = threading.Event()

    def late(handler: Handler, answer: Answer) -> Answer:
        go.wait(PATIENCE)
        return answer

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        await tag(shop, f"{liar.address}/a/img:v1", f"{liar.address}/b/img:v1")
        liar.lie("POST", "mount=", late)
        pushing = asyncio.ensure_future(push(shop, f"{liar.address}/b/img:v1"))
        await soon(lambda: liar.log.count("POST", "mount=") == 2)
        go.set()
        said = await pushing
        assert sum(line.endswith(": Waiting") for line in said) == 2

    with_shop(tmp_path, work, limits=TransferLimits(uploads=2))
