"""Lists of manifests in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sampan.cli.manifests.entries import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Entry,
    list_document,
)
from sampan.cli.manifests.registry import normal
from sampan.cli.manifests.store import ManifestStore
from sampan.errors import InvalidArgument, NotFound

TARGET, IMAGE = normal("host:5000/list:1"), normal("host:5000/a")
CONTENT = b'{"config": {"digest": "sha256:c"}, "layers": [{"digest": "sha256:l"}]}'


def entry(kind: str = DOCKER_MANIFEST) -> Entry:
    return Entry(str(IMAGE), kind, CONTENT, {"os": "linux", "architecture": "arm", "x": "y"})


@pytest.fixture
def store(tmp_path: Path) -> ManifestStore:
    return ManifestStore(str(tmp_path))


def test_what_was_saved_is_there(store: ManifestStore, tmp_path: Path) -> None:
    store.save(TARGET, IMAGE, entry())
    found = store.get(TARGET, IMAGE)
    assert found
    assert found.document() == entry().document()
    assert found.blobs() == ["sha256:c", "sha256:l"]
    assert [item.digest for item in store.entries(TARGET)] == [entry().digest]
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [
        "host-5000_list-1/host-5000_a-latest"
    ]


def test_what_was_removed_is_gone(store: ManifestStore) -> None:
    store.save(TARGET, IMAGE, entry())
    store.remove(TARGET)
    for ask in (store.remove, store.entries):
        with pytest.raises(NotFound, match="No such manifest: host:5000/list:1"):
            ask(TARGET)
    with pytest.raises(NotFound, match="No such manifest: host:5000/a:latest"):
        store.get(TARGET, IMAGE)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "1", '{"Raw": "%"}', '{"Raw": "YQ=="}', '{"Raw": "YQ==", "Descriptor": 1}'],
)
def test_a_broken_file_is_named(store: ManifestStore, tmp_path: Path, content: str) -> None:
    store.save(TARGET, IMAGE, entry())
    (tmp_path / "host-5000_list-1/host-5000_a-latest").write_text(content)
    with pytest.raises(InvalidArgument, match=r"invalid manifest file .*host-5000_a-latest"):
        store.get(TARGET, IMAGE)


def test_a_file_without_the_bytes_counts_as_none(store: ManifestStore, tmp_path: Path) -> None:
    store.save(TARGET, IMAGE, entry())
    (tmp_path / "host-5000_list-1/host-5000_a-latest").write_text('{"Ref": "x"}')
    assert store.get(TARGET, IMAGE) is None
    assert store.entries(TARGET) == []


def test_the_first_manifest_says_what_kind_of_list_it_is() -> None:
    for kind, expected in ((DOCKER_MANIFEST, DOCKER_LIST), (OCI_MANIFEST, OCI_INDEX)):
        document = json.loads(list_document([entry(kind)]))
        assert document["mediaType"] == expected
        assert document["manifests"][0]["platform"] == {"architecture": "arm", "os": "linux"}
    assert json.loads(list_document([]))["mediaType"] == DOCKER_LIST
