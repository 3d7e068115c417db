"""Pulls from a registry that does what it is told, into a store without file systems."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument, NotFound, Upstream
from sampan.spec import image as media
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from tests import lying_registry as lies
from tests.image_shop import Shop
from tests.lying_registry import LyingRegistry
from tests.remote_images import Blob, Image, Index, image, index, layer, push, small_layer
from tests.transfers import Anchored, messages, pull, short, with_shop

BASE, MIDDLE, TOP = (small_layer(name) for name in ("base", "middle", "top"))


@pytest.fixture
def liar() -> Iterator[LyingRegistry]:
    with lies.lying_registry() as registry:
        yield registry


# --- what is fetched, and what is said -------------------------------------------------------


def test_a_new_image_gets_a_tag_and_a_digest_and_docker_prints_it(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    what = image(BASE, TOP, Labels={"a": "b"})
    push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img"
        said = await pull(shop, f"{name}:v1")
        base, top = short(BASE.digest), short(TOP.digest)
        assert said[0] == "v1: Pulling from a/img"
        assert sorted(said[1:3]) == sorted(f"{one}: Pulling fs layer" for one in (base, top))
        for one in (base, top):
            steps = [line.partition(": ")[2] for line in said if line.startswith(one)]
            assert steps == [
                "Pulling fs layer",
                "Verifying Checksum",
                "Download complete",
                "Pull complete",
            ]
        complete = [line for line in said if line.endswith("Pull complete")]
        assert complete == [f"{base}: Pull complete", f"{top}: Pull complete"]
        assert said[-2:] == [
            f"Digest: {what.digest}",
            f"Status: Downloaded newer image for {name}:v1",
        ]
        found = await shop.images.inspect(f"{name}:v1")
        assert found.id == what.id
        assert found.repo_tags == [f"{name}:v1"]
        assert found.repo_digests == [f"{name}@{what.digest}"]
        assert shop.events == [("pull", name)]

    with_shop(tmp_path, work)


def test_an_image_that_is_up_to_date_costs_one_request_without_a_body(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    what = image(BASE)
    push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await pull(shop, name)
        liar.log.clear()
        assert await pull(shop, name) == [
            "v1: Pulling from a/img",
            f"Digest: {what.digest}",
            f"Status: Image is up to date for {name}",
        ]
        assert [method for method, _ in liar.log.lines] == ["HEAD"]

    with_shop(tmp_path, work)


def test_a_moved_tag_fetches_only_what_is_new(liar: LyingRegistry, tmp_path: Path) -> None:
    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        push(liar, "a/img", "v1", image(BASE))
        await pull(shop, name)
        liar.log.clear()
        push(liar, "a/img", "v1", image(BASE, TOP))
        said = await pull(shop, name)
        assert f"{short(BASE.digest)}: Already exists" in said
        assert said[-1] == f"Status: Downloaded newer image for {name}"
        assert liar.log.count("GET", BASE.digest) == 0
        assert len(shop.images.store.images) == 2

    with_shop(tmp_path, work)


def test_by_digest_there_is_no_tag(liar: LyingRegistry, tmp_path: Path) -> None:
    what = image(BASE)
    push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img@{what.digest}"
        said = await pull(shop, name)
        assert said[0] == f"{name}: Pulling from a/img"
        assert said[-1] == f"Status: Downloaded newer image for {name}"
        found = await shop.images.inspect(name)
        assert (found.repo_tags, found.repo_digests) == ([], [name])
        tagged = f"{liar.address}/a/img:v7@{what.digest}"
        assert (await pull(shop, tagged))[-1] == f"Status: Image is up to date for {tagged}"
        assert (await shop.images.inspect(name)).repo_tags == []

    with_shop(tmp_path, work)


def test_without_a_tag_all_tags_are_pulled(liar: LyingRegistry, tmp_path: Path) -> None:
    one, two = image(BASE), image(BASE, TOP)
    push(liar, "a/img", "v1", one)
    push(liar, "a/img", "v2", two)

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img"
        said = await pull(shop, name)
        for tag, what in (("v1", one), ("v2", two)):
            at = said.index(f"{tag}: Pulling from a/img")
            assert f"Digest: {what.digest}" in said[at:]
        assert said[-1] == f"Status: Downloaded newer image for {name}"
        names = shop.images.store.names.of_repository(Reference.parse(name))
        assert [each.familiar for each in names if each.tag] == [f"{name}:v1", f"{name}:v2"]
        assert (await pull(shop, name))[-1] == f"Status: Image is up to date for {name}"

    with_shop(tmp_path, work)


def test_a_layer_that_comes_twice_in_an_image_is_fetched_once(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    what = image(BASE, TOP, BASE, TOP, BASE)
    push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        assert liar.log.count("GET", BASE.digest) == 1
        assert len(shop.images.store.images[what.id].chains) == 5

    with_shop(tmp_path, work)


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
def test_every_compression_is_taken(liar: LyingRegistry, tmp_path: Path, compression: str) -> None:
    what = image(layer(bytes(1024), compression, oci=True), oci=True)
    push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        assert list(shop.images.store.images) == [what.id]

    with_shop(tmp_path, work)


def test_an_image_of_sha512_has_the_id_that_every_engine_gives_it(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    what = image(BASE, algorithm="sha512")
    push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        (found,) = shop.images.store.images
        assert found.startswith("sha256:")

    with_shop(tmp_path, work)


def test_layers_that_need_their_parents_come_at_once_and_are_unpacked_in_order(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    what = image(BASE, MIDDLE, TOP)
    push(liar, "a/img", "v1", what)
    mounter = Anchored()

    async def work(shop: Shop) -> None:
        await pull(shop, f"{liar.address}/a/img:v1")
        assert list(shop.images.store.images) == [what.id]
        assert len(mounter.committed) == 3

    with_shop(tmp_path, work, mounter=mounter)


# --- platforms -------------------------------------------------------------------------------


def platforms() -> tuple[Index, dict[str, Image]]:
    images = {
        "linux/arm/v6": image(BASE, architecture="arm", variant="v6"),
        "linux/arm/v7": image(MIDDLE, architecture="arm", variant="v7"),
        "linux/arm64": image(TOP, architecture="arm64", variant="v8"),
        str(Platform.host()): image(BASE, TOP, architecture=Platform.host().architecture),
    }
    return index(*images.values(), attestations=True), images


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("", str(Platform.host())),
        ("linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v8", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
    ],
)
def test_of_an_index_the_platform_is_fetched_that_serves_best(
    liar: LyingRegistry, tmp_path: Path, asked: str, given: str
) -> None:
    whole, images = platforms()
    push(liar, "a/img", "v1", whole)

    async def work(shop: Shop) -> None:
        said = await pull(shop, f"{liar.address}/a/img:v1", asked)
        assert list(shop.images.store.images) == [images[given].id]
        assert f"Digest: {whole.digest}" in said
        assert not any(line.startswith("WARNING") for line in said)

    with_shop(tmp_path, work)


def test_several_platforms_of_a_name_stay_side_by_side(liar: LyingRegistry, tmp_path: Path) -> None:
    whole, images = platforms()
    push(liar, "a/img", "v1", whole)

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        await pull(shop, name, "linux/arm64")
        said = await pull(shop, name)
        assert said[-1] == f"Status: Downloaded newer image for {name}"
        host = images[str(Platform.host())].id
        assert (await shop.images.inspect(name)).id == host
        arm = await shop.images.inspect(name, Platform.parse("linux/arm64"))
        assert arm.id == images["linux/arm64"].id
        liar.log.clear()
        assert (await pull(shop, name))[-1] == f"Status: Image is up to date for {name}"
        assert [method for method, _ in liar.log.lines] == ["HEAD"]

    with_shop(tmp_path, work)


def test_a_platform_that_an_index_has_not_is_named(liar: LyingRegistry, tmp_path: Path) -> None:
    whole, _ = platforms()
    push(liar, "a/img", "v1", whole)

    async def work(shop: Shop) -> None:
        with pytest.raises(NotFound) as failure:
            await pull(shop, f"{liar.address}/a/img:v1", "linux/riscv64")
        assert str(failure.value) == (
            "no matching manifest for linux/riscv64 in the manifest list entries"
        )

    with_shop(tmp_path, work)


def test_the_only_image_of_another_platform_is_taken_with_a_warning(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    push(liar, "a/img", "v1", image(BASE, architecture="s390x"))

    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/img:v1"
        assert (await pull(shop, name, "linux/arm64"))[-1] == (
            f"WARNING: image with reference {name} was found but its platform (linux/s390x)"
            " does not match the specified platform (linux/arm64)"
        )

    with_shop(tmp_path, work)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (
            image(layer(bytes(1024), media_type="application/vnd.acme.rocket")),
            "unsupported media type application/vnd.acme.rocket",
        ),
        (image(*(small_layer(str(n)) for n in range(128))), "max depth exceeded"),
        (image(BASE, system="windows"), "operating system is not supported"),
    ],
)
def test_what_is_no_image_for_this_engine_is_refused(
    liar: LyingRegistry, tmp_path: Path, what: Image, sentence: str
) -> None:
    push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        with pytest.raises(InvalidArgument, match=sentence):
            await pull(shop, f"{liar.address}/a/img:v1")
        assert shop.images.store.images == {}
        assert shop.mounter.committed == {}

    with_shop(tmp_path, work)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("application/vnd.cncf.helm.config.v1+json", r"\(unknown\)"),
        ("application/vnd.docker.plugin.v1+json", r"\(plugin\)"),
    ],
)
def test_an_artifact_is_told_by_its_configuration(
    liar: LyingRegistry, tmp_path: Path, kind: str, sentence: str
) -> None:
    made = image(BASE, oci=True)
    changed = made.manifest.content.replace(media.MEDIA_CONFIG.encode(), kind.encode())
    push(liar, "a/img", "v1", Image(Blob(media.MEDIA_MANIFEST, changed), made.config, made.layers))

    async def work(shop: Shop) -> None:
        with pytest.raises(InvalidArgument, match=f"{re.escape(kind)}.*{sentence} when fetching"):
            await pull(shop, f"{liar.address}/a/img:v1")

    with_shop(tmp_path, work)


def test_a_configuration_that_speaks_of_other_layers_is_a_lie(
    liar: LyingRegistry, tmp_path: Path
) -> None:
    one, other = image(BASE, TOP), image(MIDDLE, TOP)
    swapped = one.manifest.content.replace(
        one.config.digest.encode(), other.config.digest.encode()
    ).replace(
        f'"size": {len(one.config.content)}'.encode(),
        str.encode(f'"size": {len(other.config.content)}'),
    )
    push(liar, "a/img", "v0", other)
    what = Image(Blob(one.manifest.media_type, swapped), other.config, one.layers)
    push(liar, "a/img", "v1", what)

    async def work(shop: Shop) -> None:
        with pytest.raises(Upstream, match="layers from manifest don't match image configuration"):
            await pull(shop, f"{liar.address}/a/img:v1")
        assert shop.images.store.images == {}
        assert shop.mounter.committed == {}

    with_shop(tmp_path, work)


def test_unknown_names_fail_before_anything_is_said(liar: LyingRegistry, tmp_path: Path) -> None:
    async def work(shop: Shop) -> None:
        name = f"{liar.address}/a/nope"
        async with aclosing(messages(shop, "pull", f"{name}:v1", "", None)) as said:
            with pytest.raises(NotFound, match=f"manifest for {name}:v1 not found"):
                await anext(said)
        assert shop.events == []

    with_shop(tmp_path, work)
