from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from sampan.build.exporting.assembling import Product, assemble
from sampan.build.exporting.options import Wishes
from sampan.spec.digest import digest_of
from sampan.spec.exports import LayerPlace
from sampan.spec.image import MEDIA_LAYER_GZIP, Descriptor
from sampan.spec.platform import Platform

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
LAYER = LayerPlace(diff_id=digest_of(b"1"), chain=digest_of(b"1"))
OCI = "application/vnd.oci.image"


async def make(layer: LayerPlace) -> Descriptor:
    await asyncio.sleep(0)
    return Descriptor(media_type=MEDIA_LAYER_GZIP, digest=layer.diff_id, size=5)


async def state(platform: Platform, manifest: Descriptor) -> Sequence[tuple[str, bytes]]:
    return [("https://type", f"{platform} {manifest.digest}".encode())]


def test_one_image_is_one_manifest() -> None:
    product = Product(AMD, b"{}", [LAYER, LAYER], state)
    made = asyncio.run(assemble([product], Wishes(), make, index=False))
    [(descriptor, content)] = made.manifests
    assert descriptor.digest == digest_of(content)
    assert made.root.digest == descriptor.digest
    manifest = json.loads(content)
    assert list(manifest) == ["schemaVersion", "mediaType", "config", "layers"]
    assert manifest["config"]["digest"] == made.config == digest_of(b"{}")
    assert [layer["digest"] for layer in manifest["layers"]] == [LAYER.diff_id] * 2
    assert made.layers == {LAYER.diff_id: LAYER}


def test_attestations_come_after_the_images_of_an_index() -> None:
    products = [Product(AMD, b"{}", [LAYER], state), Product(ARM, b"{ }", [], state)]
    made = asyncio.run(assemble(products, Wishes(), make, index=True))
    again = asyncio.run(assemble(products, Wishes(), make, index=True))
    assert made.manifests == again.manifests
    index = json.loads(made.manifests[-1][1])
    assert [one["platform"]["os"] for one in index["manifests"]] == ["linux"] * 2 + ["unknown"] * 2
    first, _, attestation, _ = index["manifests"]
    assert attestation["annotations"] == {
        "vnd.docker.reference.digest": first["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    contents = {one.digest: json.loads(content) for one, content in made.manifests}
    manifest = contents[attestation["digest"]]
    assert manifest["subject"]["digest"] == first["digest"]
    assert manifest["config"]["mediaType"] == f"{OCI.removesuffix('.image')}.empty.v1+json"
    [layer] = manifest["layers"]
    assert made.blobs[layer["digest"]][1] == f"linux/amd64 {first['digest']}".encode()
    assert layer["annotations"] == {"in-toto.io/predicate-type": "https://type"}
    assert made.config == ""


def test_attestations_of_an_older_form_have_a_configuration() -> None:
    wishes = Wishes(artifact=False)
    made = asyncio.run(assemble([Product(AMD, b"{}", [], state)], wishes, make, index=True))
    contents = {one.digest: json.loads(content) for one, content in made.manifests}
    manifest = contents[json.loads(made.manifests[-1][1])["manifests"][1]["digest"]]
    config = json.loads(made.blobs[manifest["config"]["digest"]][1])
    assert config["os"] == "unknown"
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    assert "subject" not in manifest
