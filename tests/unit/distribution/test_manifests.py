"""What a registry gives as a manifest is what it says, or is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.distribution.manifests import checked
from sampan.errors import SampanError, Unsupported, Upstream
from sampan.spec import image as media
from sampan.spec.digest import Digest
from tests import remote_images
from tests.remote_images import Blob

IMAGE = remote_images.image(remote_images.small_layer("a"))
OCI = remote_images.image(remote_images.small_layer("a"), oci=True, algorithm="sha512")
INDEX = remote_images.index(IMAGE, attestations=True)


def check(content: bytes, kind: str, told: str = "", asked: Digest | None = None) -> Any:
    return checked(content, kind, told, asked, "name:tag")


def changed(blob: Blob, **fields: Any) -> bytes:
    document = {**json.loads(blob.content), **fields}
    return json.dumps({k: v for k, v in document.items() if v != "gone"}).encode()


@pytest.mark.parametrize("blob", [IMAGE.manifest, OCI.manifest, INDEX.manifest])
def test_whole_documents_pass(blob: Blob) -> None:
    for kind in (blob.media_type, f"{blob.media_type}; charset=utf-8", "", "application/json"):
        found = check(blob.content, kind, blob.digest, Digest(blob.digest))
        assert found.descriptor.digest == blob.digest
        assert found.descriptor.media_type == blob.media_type
        assert (found.descriptor.size, found.content) == (len(blob.content), blob.content)


def test_a_document_may_leave_its_type_to_the_header() -> None:
    found = check(changed(OCI.manifest, mediaType="gone"), media.MEDIA_MANIFEST)
    assert found.descriptor.media_type == media.MEDIA_MANIFEST
    found = check(changed(INDEX.manifest, mediaType="gone"), "")
    assert found.descriptor.media_type == media.MEDIA_INDEX
    assert found.descriptor.digest.startswith("sha256:")


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "sha512:" + "0" * 128])
def test_another_digest_is_refused(digest: str) -> None:
    content, kind = IMAGE.manifest.content, IMAGE.manifest.media_type
    sentence = f"manifest verification failed for digest {digest}"
    with pytest.raises(Upstream, match=sentence):
        check(content, kind, digest)
    with pytest.raises(Upstream, match=sentence):
        check(content, kind, IMAGE.digest, Digest(digest))


@pytest.mark.parametrize("told", ["", "nonsense", "md5:d41d8cd98f00b204e9800998ecf8427e"])
def test_a_digest_that_is_none_is_not_believed(told: str) -> None:
    found = check(IMAGE.manifest.content, IMAGE.manifest.media_type, told)
    assert found.descriptor.digest == IMAGE.digest


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        (IMAGE.manifest.content, media.MEDIA_MANIFEST, "mediaType in manifest should be"),
        (IMAGE.manifest.content, media.MEDIA_INDEX, "mediaType in manifest should be"),
        (changed(INDEX.manifest, mediaType="gone"), media.MEDIA_MANIFEST, "found index"),
        (changed(IMAGE.manifest, mediaType="gone"), media.MEDIA_INDEX, "found manifest"),
        (changed(IMAGE.manifest, manifests=[]), IMAGE.manifest.media_type, "found index"),
        (changed(INDEX.manifest, layers=[]), INDEX.manifest.media_type, "found manifest"),
        (changed(INDEX.manifest, config={}), "", "found manifest"),
        (IMAGE.manifest.content, "text/html", "unsupported manifest media type: text/html"),
        (changed(IMAGE.manifest, mediaType="x\n\x1b[31m"), "", "unsupported manifest media type"),
        (b"<html>", "text/plain", "invalid manifest"),
        (b"", media.MEDIA_MANIFEST, "invalid manifest"),
        (b"[" * 100_000, media.MEDIA_MANIFEST, "invalid manifest"),
        (b"{}", media.MEDIA_MANIFEST, "invalid manifest"),
        (changed(IMAGE.manifest, config={"digest": "x", "size": 1}), "", "invalid manifest"),
        (changed(IMAGE.manifest, config={**IMAGE.config.descriptor, "size": -1}), "", "negative"),
        (changed(IMAGE.manifest, layers=[{"digest": 5}]), "", "invalid manifest"),
    ],
)
def test_type_and_content_must_agree(content: bytes, kind: str, sentence: str) -> None:
    with pytest.raises(Upstream, match=sentence) as caught:
        check(content, kind)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"schemaVersion":1,"fsLayers":[],"history":[]}', "application/json"),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+json"),
    ],
)
def test_schema_1_is_refused_as_docker_does(content: bytes, kind: str) -> None:
    with pytest.raises(Unsupported, match=r'schema 1 support has been removed.*"name:tag"'):
        check(content, kind)


@settings(deadline=None)
@given(content=st.binary() | st.text().map(str.encode), kind=st.text())
def test_nothing_raises_anything_else(content: bytes, kind: str) -> None:
    with pytest.raises(SampanError):
        check(content, kind)


@settings(deadline=None, max_examples=40)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "digest"]),
        inner,
    ),
))  # fmt: skip
def test_no_document_raises_anything_else(document: Any) -> None:
    for kind in ("", media.MEDIA_MANIFEST, media.MEDIA_INDEX):
        try:
            check(json.dumps(document).encode(), kind)
        except SampanError:
            continue
