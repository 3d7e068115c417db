"""What lists and inspect say of images that stand for several platforms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sampan.engine.images.model import ImageUse
from sampan.spec.platform import Platform
from tests.image_shop import Shop, run
from tests.layouts import INDEX, MANIFEST, Layout
from tests.tarballs import archive, file

BASE, TOP, OTHER = (archive(file(name, name.encode() * 99)) for name in ("base", "top", "other"))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


def load(shop: Shop) -> Layout:
    """Load app:1: two platforms that are here, one that is not, an attestation, and a stranger."""
    layout = Layout()
    amd, arm = layout.image(BASE, TOP), layout.image(BASE, OTHER, architecture="arm64")
    absent = layout.image(OTHER, architecture="s390x")
    attestation = layout.attestation(amd)
    stranger = layout.blob(b"stranger", "application/x-nobody-knows")
    layout.name(layout.index(amd, arm, absent, attestation, stranger), "docker.io/library/app:1")
    shop.load(layout.archive(absent["digest"]))
    return layout


def test_an_image_of_several_platforms_is_one_entry_with_all_its_bytes(shop: Shop) -> None:
    layout = load(shop)
    arm = run(shop.images.resolve("app:1", Platform.parse("arm64"))).id
    shop.uses.append(ImageUse("c" * 64, arm, running=True))
    (item,) = run(shop.images.summaries({}, shared_size=True))
    assert item.id == run(shop.images.resolve("app:1")).id
    assert item.repo_tags == ["app:1"]
    assert item.size == shop.images.layers_size() == sum(map(len, (BASE, TOP, OTHER)))
    assert item.shared_size == len(BASE)
    assert item.containers == 1
    assert item.manifests is msgspec.UNSET
    assert not isinstance(item.descriptor, msgspec.UnsetType)
    assert item.descriptor.media_type == INDEX
    assert item.descriptor.digest == layout.manifests[0]["digest"]
    assert shop.listed(all=True) == ["app:1"]


def test_a_tree_shows_every_manifest(shop: Shop) -> None:
    layout = load(shop)
    arm = run(shop.images.resolve("app:1", Platform.parse("arm64"))).id
    shop.uses.append(ImageUse("c" * 64, arm, running=True))
    (item,) = run(shop.images.summaries({}, manifests=True))
    shown = msgspec.json.decode(msgspec.json.encode(item))["Manifests"]
    assert [(it["Kind"], it["Available"]) for it in shown] == [
        ("image", True), ("image", True), ("image", False), ("attestation", True),
        ("unknown", True),
    ]  # fmt: skip
    amd, second, absent, attestation, _ = shown
    assert amd["Descriptor"]["mediaType"] == MANIFEST
    assert amd["ID"] == amd["Descriptor"]["digest"]
    assert amd["ImageData"]["Platform"] == {"architecture": "amd64", "os": "linux"}
    assert amd["ImageData"]["Size"] == {"Unpacked": len(BASE) + len(TOP)}
    assert amd["Size"]["Total"] == amd["Size"]["Content"] + len(BASE) + len(TOP)
    kept = shop.images.store.layers.kept()
    assert amd["Size"]["Content"] > sum(it.blob_size for it in kept if it.diff_id != OTHER) / 2
    assert (amd["ImageData"]["Containers"], second["ImageData"]["Containers"]) == ([], ["c" * 64])
    assert absent["Size"] == {"Content": 0, "Total": 0}
    assert absent["ImageData"]["Platform"]["architecture"] == "s390x"
    assert attestation["AttestationData"] == {"For": amd["ID"]}
    assert "ImageData" not in attestation
    assert layout.manifests


def test_an_image_of_one_platform_has_the_descriptor_of_its_manifest(shop: Shop) -> None:
    layout = Layout()
    manifest = layout.image(BASE)
    layout.name(manifest, "docker.io/library/app:1")
    shop.load(layout.archive())
    body = msgspec.json.decode(
        msgspec.json.encode(run(shop.images.inspect("app:1", manifests=True)))
    )
    assert body["Descriptor"] == {
        "mediaType": MANIFEST,
        "digest": manifest["digest"],
        "size": manifest["size"],
    }
    assert [it["ID"] for it in body["Manifests"]] == [manifest["digest"]]


def test_an_image_that_was_made_here_has_no_descriptor(shop: Shop) -> None:
    shop.make("app:1")
    (item,) = run(shop.images.summaries({}, manifests=True))
    assert {"Descriptor", "Manifests"}.isdisjoint(msgspec.json.decode(msgspec.json.encode(item)))
    body = msgspec.json.decode(msgspec.json.encode(run(shop.images.inspect("app:1"))))
    assert {"Descriptor", "Manifests"}.isdisjoint(body)
