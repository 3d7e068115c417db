"""What archives of images may hold: layouts, platforms, attestations, and strange things."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard

from sampan.errors import InvalidArgument
from sampan.spec.digest import Digest
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference
from tests import tarballs
from tests.image_shop import Shop, member, names, run
from tests.layouts import INDEX, Layout, packed
from tests.tarballs import archive, file

BASE, TOP, OTHER = (archive(file(name, name.encode() * 99)) for name in ("base", "top", "other"))
APP = "docker.io/library/app:1"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


def platforms(layout: Layout) -> str:
    """Add an image of two platforms, each with an attestation, as app:1; return its digest."""
    amd, arm = layout.image(BASE, TOP), layout.image(BASE, OTHER, architecture="arm64")
    index = layout.index(amd, arm, layout.attestation(amd), layout.attestation(arm))
    layout.name(index, APP)
    digest: str = index["digest"]
    return digest


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("compress", [packed, zstandard.compress])
def test_the_archive_of_a_compressed_layer_is_kept_and_its_manifest_is_the_target(
    shop: Shop, algorithm: str, compress: object
) -> None:
    layout = Layout(algorithm)
    manifest = layout.image(BASE, TOP, compress=compress)  # type: ignore[arg-type]
    layout.name(manifest, APP)
    assert shop.load(layout.archive()) == ["Loaded image: app:1"]
    store = shop.images.store
    assert store.target_of(Reference.parse("app:1")) == manifest["digest"]
    for layer in (BASE, TOP):
        kept = store.layers.find(tarballs.digest(layer))
        assert kept is not None
        assert kept.blob == layout.digest(compress(layer))  # type: ignore[operator]
    assert set(layout.blobs) <= shop.blobs()
    run(shop.images.collect())
    assert set(layout.blobs) <= shop.blobs()
    shop.remove("app:1")
    assert shop.blobs() == set()


def test_a_plain_layer_keeps_no_archive_and_its_manifest_is_no_target(shop: Shop) -> None:
    layout = Layout()
    layout.name(layout.image(BASE, compress=None), APP)
    shop.load(layout.archive())
    assert shop.images.store.target_of(Reference.parse("app:1")) is None
    assert shop.blobs() == {run(shop.images.resolve("app:1")).id}


def test_a_name_of_an_index_stands_for_all_its_platforms(shop: Shop) -> None:
    layout = Layout()
    digest = platforms(layout)
    assert shop.load(layout.archive()) == ["Loaded image: app:1"]
    store = shop.images.store
    assert store.target_of(Reference.parse("app:1")) == digest
    amd, arm = (
        run(shop.images.resolve("app:1", Platform.parse(name))) for name in ("amd64", "arm64")
    )
    assert (amd.config.architecture, arm.config.architecture) == ("amd64", "arm64")
    assert run(shop.images.resolve("app:1")) == run(shop.images.resolve("app:1", Platform.host()))
    assert store.references(arm.id) == store.references(amd.id) == [Reference.parse("app:1")]
    assert [member.kind for member in store.documents.members(Digest(digest))] == [
        "image", "image", "attestation", "attestation",
    ]  # fmt: skip
    assert set(layout.blobs) <= shop.blobs()


def test_platforms_outlast_a_restart(shop: Shop) -> None:
    layout = Layout()
    platforms(layout)
    shop.load(layout.archive())
    shop.close()
    shop.open()
    run(shop.images.collect())
    assert set(layout.blobs) <= shop.blobs()
    image = run(shop.images.resolve("app:1", Platform.parse("arm64")))
    assert image.config.architecture == "arm64"


def test_only_the_wanted_platform_is_loaded(shop: Shop) -> None:
    layout = Layout()
    platforms(layout)
    assert shop.load(layout.archive(), platform=Platform.parse("arm64")) == ["Loaded image: app:1"]
    assert [image.config.architecture for image in shop.images.store.images.values()] == ["arm64"]
    assert set(shop.mounter.committed) == set(shop.chains("app:1"))
    assert shop.mounter.staged == {}


def test_a_platform_whose_layers_are_not_in_the_archive_is_left_out(shop: Shop) -> None:
    layout = Layout()
    platforms(layout)
    assert shop.load(layout.archive(layout.digest(packed(OTHER))))
    assert [image.config.architecture for image in shop.images.store.images.values()] == ["amd64"]


def test_what_is_saved_of_several_platforms_is_loaded_again_and_saved_the_same(
    shop: Shop, tmp_path: Path
) -> None:
    layout = Layout()
    platforms(layout)
    shop.load(layout.archive())
    saved = shop.save("app:1")
    (entry,) = member(saved, "index.json")["manifests"]
    assert entry["mediaType"] == INDEX
    assert [item["RepoTags"] for item in member(saved, "manifest.json")] == [["app:1"]]
    (tmp_path / "other").mkdir()
    other = Shop(tmp_path / "other")
    try:
        assert other.load(saved) == ["Loaded image: app:1"]
        assert other.images.store.images.keys() == shop.images.store.images.keys()
        assert other.save("app:1") == saved
        blobs = [name for name in names(saved) if name.startswith("blobs/sha256/")]
        assert len(blobs) == 3 + 2 + 2 + 1  # layers, configurations, manifests, the index
    finally:
        other.close()


def test_strange_things_in_an_index_are_kept_and_do_no_harm(shop: Shop) -> None:
    layout = Layout()
    image = layout.image(BASE)
    chart = layout.document(
        {
            "schemaVersion": 2,
            "config": layout.document({"name": "x"}, "application/vnd.cncf.helm.config.v1+json"),
            "layers": [
                layout.blob(packed(b"no tar"), "application/vnd.cncf.helm.chart.v1.tar+gzip")
            ],
        },
        "application/vnd.oci.image.manifest.v1+json",
    )
    opaque = layout.blob(b"\x00\x01 whatever", "application/x-nobody-knows")
    absent = {"mediaType": "application/x", "digest": tarballs.digest(b"absent"), "size": 6}
    foreign = layout.image(TOP, os="windows")
    layout.name(layout.index(layout.index(image), chart, opaque, absent, foreign), APP)
    assert shop.load(layout.archive()) == ["Loaded image: app:1"]
    assert run(shop.images.resolve("app:1")).config.diff_ids == [tarballs.digest(BASE)]
    assert {chart["digest"], opaque["digest"]} <= shop.blobs()
    assert shop.mounter.staged == {}


def test_a_manifest_that_could_be_an_index_is_refused(shop: Shop) -> None:
    layout = Layout()
    image = layout.image(BASE)
    both = {"schemaVersion": 2, "manifests": [image], "config": image, "layers": []}
    layout.name(layout.document(both, INDEX), APP)
    with pytest.raises(InvalidArgument, match="an image and an index at once"):
        shop.load(layout.archive())


def test_indexes_in_indexes_have_an_end(shop: Shop) -> None:
    layout = Layout()
    deep = layout.image(BASE)
    for _ in range(6):
        deep = layout.index(deep)
    layout.name(deep, APP)
    with pytest.raises(InvalidArgument, match="index in index in index"):
        shop.load(layout.archive())


def test_a_layer_that_another_digest_names_is_refused_and_leaves_nothing(shop: Shop) -> None:
    layout = Layout()
    layout.name(layout.image(BASE), APP)
    layout.blobs[layout.digest(packed(BASE))] = packed(OTHER)
    with pytest.raises(InvalidArgument, match="unexpected commit digest"):
        shop.load(layout.archive())
    run(shop.images.prune({}))
    assert shop.blobs() == set()
    assert shop.mounter.staged == shop.mounter.committed == {}


def test_dockers_archive_beside_a_layout_gives_names_and_parents(shop: Shop) -> None:
    layout = Layout()
    manifest = layout.image(BASE, compress=packed)
    layout.name(manifest)
    config = next(iter(layout.blobs))
    item = [{"Config": "blobs/" + config.replace(":", "/"), "RepoTags": ["app:1"], "Layers": []}]
    content = layout.archive(manifest_json=msgspec.json.encode(item))
    assert shop.load(content) == ["Loaded image: app:1"]
    assert shop.images.store.target_of(Reference.parse("app:1")) == manifest["digest"]


def test_what_an_interrupted_load_had_completed_is_not_read_again(shop: Shop) -> None:
    layout = Layout()
    layout.name(layout.image(BASE, TOP), APP)
    content = layout.archive()
    with pytest.raises(InvalidArgument):
        shop.load(content[:-4096])
    assert shop.mounter.staged
    before = dict(shop.mounter.staged)
    shop.close()
    shop.open()
    run(shop.images.collect())
    assert shop.mounter.staged == before
    shop.mounter.unpacked.clear()
    assert shop.load(content) == ["Loaded image: app:1"]
    assert shop.mounter.unpacked == []
    assert shop.mounter.staged == {}


def test_layers_that_no_image_asks_for_do_no_harm_and_do_not_stay(shop: Shop) -> None:
    layout = Layout()
    layout.name(layout.image(BASE), APP)
    layout.blob(packed(b"no tar at all" * 1000), "x")
    layout.blob(OTHER, "x")
    layout.blob(packed(TOP)[:-10], "x")
    content = layout.archive(twice=TOP)
    with io.BytesIO(content) as buffer, tarfile.open(fileobj=buffer, mode="a") as more:
        entry = tarfile.TarInfo("twice")
        entry.size = len(OTHER)
        more.addfile(entry, io.BytesIO(OTHER))
        more.close()
        content = buffer.getvalue()
    assert shop.load(content) == ["Loaded image: app:1"]
    assert set(shop.mounter.committed) == {tarballs.digest(BASE)}
    assert shop.mounter.staged == {}
    assert run(shop.images.check()).problems == []


def test_the_same_layer_may_come_twice_in_an_image(shop: Shop) -> None:
    layout = Layout()
    layout.name(layout.image(BASE, TOP, BASE), APP)
    assert shop.load(layout.archive()) == ["Loaded image: app:1"]
    image = run(shop.images.resolve("app:1"))
    assert image.config.diff_ids == [tarballs.digest(layer) for layer in (BASE, TOP, BASE)]
    assert len(shop.mounter.committed) == 3
    assert shop.mounter.staged == {}


def test_layers_that_are_here_are_not_unpacked_again(shop: Shop) -> None:
    layout = Layout()
    layout.name(layout.image(BASE, TOP), APP)
    shop.load(layout.archive())
    shop.mounter.unpacked.clear()
    other = Layout()
    other.name(other.image(BASE, TOP, OTHER), "docker.io/library/other:1")
    other.name(other.image(TOP), "docker.io/library/third:1")
    assert shop.load(other.archive()) == ["Loaded image: other:1", "Loaded image: third:1"]
    unpacked = [key.removeprefix("staged-") for key in shop.mounter.unpacked]
    # The first is new; the second lies on another parent: it is copied from there.
    assert unpacked == [tarballs.digest(packed(OTHER))[7:], tarballs.digest(TOP)[7:]]
    assert shop.images.store.layers._wanted == {}


# --- archives that would fill the memory -------------------------------------------------------


def test_a_document_that_many_images_name_is_in_memory_once(shop: Shop) -> None:
    config = file("c", b"{}" + b" " * (8 << 20))
    items = [{"Config": "c", "RepoTags": None, "Layers": None}] * 20
    content = archive(config, file("manifest.json", msgspec.json.encode(items)))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match="no RootFS key"):
            shop.load(content)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100 << 20


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("archives._DOCUMENTS", 3000, "its documents are too large"),
        ("archives._ITEMS", 1, "too many images"),
        ("receiving._NAMES", 700, "too many members"),
    ],
)
def test_what_an_archive_says_of_itself_has_an_end(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, message: str
) -> None:
    layout = Layout()
    for number in range(5):
        image = layout.image(archive(file(str(number))))
        layout.name(image, f"docker.io/library/app:{number}")
    monkeypatch.setattr(f"sampan.engine.images.archives.{limit}", value)
    with pytest.raises(InvalidArgument, match=message):
        shop.load(layout.archive())
    assert shop.listed() == []
