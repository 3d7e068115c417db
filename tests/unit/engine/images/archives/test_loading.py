"""Loading and saving images."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from sampan.errors import InvalidArgument, NotFound
from sampan.spec.digest import digest_of
from sampan.spec.platform import Platform
from tests.image_shop import Shop, member, run, stream
from tests.tarballs import archive, digest, file, hardlink, names, symlink

LAYER = archive(file("f", b"layer"))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


def config(*layers: bytes, **fields: Any) -> bytes:
    """Return an image configuration."""
    rootfs = {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}
    return msgspec.json.encode({"architecture": "amd64", "os": "linux", "rootfs": rootfs} | fields)


def document(name: str, content: Any) -> bytes:
    return file(name, content if isinstance(content, bytes) else msgspec.json.encode(content))


def docker_archive(*layers: bytes, tags: list[str] | None = None, **item: Any) -> bytes:
    """Return a Docker archive of one image."""
    entry = {
        "Config": "config.json",
        "RepoTags": tags,
        "Layers": [f"{number}/layer.tar" for number in range(len(layers))],
    }
    return archive(
        document("manifest.json", [entry | item]),
        document("config.json", config(*layers)),
        *(document(f"{number}/layer.tar", layer) for number, layer in enumerate(layers)),
    )


def layout(
    manifest_type: str = "application/vnd.oci.image.manifest.v1+json", **annotations: str
) -> bytes:
    """Return an OCI layout of one image with a compressed layer."""
    packed, image = gzip.compress(LAYER, mtime=0), config(LAYER)
    manifest = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "config": {"mediaType": "x", "digest": digest(image), "size": len(image)},
            "layers": [{"mediaType": "x", "digest": digest(packed), "size": len(packed)}],
        }
    )
    described = {
        "mediaType": manifest_type,
        "digest": digest(manifest),
        "size": len(manifest),
        "annotations": annotations,
    }
    return archive(
        document("oci-layout", {"imageLayoutVersion": "1.0.0"}),
        document("index.json", {"schemaVersion": 2, "manifests": [described]}),
        *(document(f"blobs/sha256/{digest(blob)[7:]}", blob) for blob in (packed, image, manifest)),
    )


# --- save ----------------------------------------------------------------------------------


def test_an_archive_is_dockers_and_an_oci_layout_at_once(shop: Shop) -> None:
    base = shop.make("base:1")
    shop.build("base:1", b"more", "app:2")
    content = shop.save("base:1", "app:2")
    items = member(content, "manifest.json")
    assert [item["RepoTags"] for item in items] == [["base:1"], ["app:2"]]
    assert items[1]["Parent"] == base
    assert items[0]["Config"] == f"blobs/sha256/{base[7:]}"
    assert items[1]["Layers"][0] == items[0]["Layers"][0]
    assert member(content, "oci-layout") == {"imageLayoutVersion": "1.0.0"}
    index = member(content, "index.json")
    assert [entry["annotations"] for entry in index["manifests"]] == [
        {
            "io.containerd.image.name": f"docker.io/library/{name}:{tag}",
            "org.opencontainers.image.ref.name": tag,
        }
        for name, tag in (("base", "1"), ("app", "2"))
    ]
    assert member(content, "repositories").keys() == {"base", "app"}
    blobs = [name for name in names(content) if name.startswith("blobs/sha256/")]
    assert len(blobs) == len(set(blobs)) == 6
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        for name in blobs:
            found = opened.extractfile(name)
            assert found is not None
            assert digest_of(found.read()) == f"sha256:{name.rpartition('/')[2]}"


def test_the_same_images_give_the_same_archive(shop: Shop) -> None:
    shop.make("app")
    assert shop.save("app") == shop.save("app")


def test_a_name_without_a_tag_saves_all_its_tags_and_an_id_none(shop: Shop) -> None:
    image = shop.make("app:1")
    run(shop.images.tag("app:1", "app", "2"))
    run(shop.images.tag("app:1", "other", ""))
    assert member(shop.save("app"), "manifest.json")[0]["RepoTags"] == ["app:1", "app:2"]
    assert member(shop.save("app:2"), "manifest.json")[0]["RepoTags"] == ["app:2"]
    by_id = shop.save(image[7:19])
    assert member(by_id, "manifest.json")[0]["RepoTags"] is None
    assert "repositories" not in names(by_id)
    assert "annotations" not in member(by_id, "index.json")["manifests"][0]


def test_saving_what_is_not_there_is_not_found(shop: Shop) -> None:
    shop.make("app")
    with pytest.raises(NotFound, match="No such image: nope:latest"):
        shop.save("app", "nope")


# --- load ----------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
def test_what_was_saved_is_loaded_with_the_same_ids(
    shop: Shop, tmp_path: Path, compress: Any
) -> None:
    base = shop.make("base:1", changes=["LABEL a=b"])
    top = shop.build("base:1", b"more", "app:2")
    content = compress(shop.save("base:1", "app:2"))
    other_root = tmp_path / "other"
    other_root.mkdir()
    other = Shop(other_root)
    assert other.load(content) == ["Loaded image: base:1", "Loaded image: app:2"]
    assert {image.id for image in other.images.store.images.values()} == {base, top}
    loaded = other.images.get(top)
    assert loaded is not None
    assert loaded.parent == base
    assert other.load(content) == ["Loaded image: base:1", "Loaded image: app:2"]
    other.close()


def test_progress_is_told_unless_quiet(shop: Shop) -> None:
    content = docker_archive(LAYER, tags=["app:1"])
    assert shop.load(content, quiet=False) == [
        "Loading layer",
        "Loading layer",
        "Loaded image: app:1",
    ]


def test_an_image_without_a_name_is_told_by_its_id(shop: Shop) -> None:
    assert shop.load(docker_archive(LAYER)) == [f"Loaded image ID: {digest(config(LAYER))}"]


def test_a_name_that_is_taken_moves_and_that_is_told(shop: Shop) -> None:
    old = shop.make("app:1")
    assert shop.load(docker_archive(LAYER, tags=["app:1"])) == [
        f"The image app:1 already exists, renaming the old one with ID {old} to empty string",
        "Loaded image: app:1",
    ]


def test_layers_may_be_links_to_one_another(shop: Shop) -> None:
    items = [
        {"Config": "config.json", "RepoTags": [f"app:{number}"], "Layers": [path]}
        for number, path in enumerate(("a/layer.tar", "b/layer.tar", "c/layer.tar"))
    ]
    content = archive(
        document("manifest.json", items),
        document("config.json", config(LAYER)),
        document("a/layer.tar", LAYER),
        symlink("b/layer.tar", "../a/layer.tar"),
        hardlink("c/layer.tar", "a/layer.tar"),
    )
    assert shop.load(content) == [f"Loaded image: app:{number}" for number in range(3)]


def test_an_oci_layout_is_loaded(shop: Shop) -> None:
    name = {"org.opencontainers.image.ref.name": "registry.example/app:7"}
    assert shop.load(layout(**name)) == ["Loaded image: registry.example/app:7"]
    bare = {"org.opencontainers.image.ref.name": "7"}
    assert shop.load(layout(**bare)) == [f"Loaded image ID: {digest(config(LAYER))}"]


def test_an_archive_of_docker_1_9_is_loaded(shop: Shop) -> None:
    content = archive(
        document("repositories", {"app": {"1": "top"}}),
        document("top/json", {"id": "top", "parent": "base", "config": {"Cmd": ["sh"]},
                              "os": "linux", "architecture": "amd64",
                              "container_config": {"Cmd": ["make"]}}),
        document("top/layer.tar", archive(file("g"))),
        document("base/json", {"id": "base", "created": "2014-01-01T00:00:00Z"}),
        document("base/layer.tar", LAYER),
    )  # fmt: skip
    assert shop.load(content) == ["Loaded image: app:1"]
    image = run(shop.images.resolve("app:1"))
    assert image.config.diff_ids == [digest(LAYER), digest(archive(file("g")))]
    assert image.config.run.cmd == ["sh"]
    assert [step.created_by for step in image.config.history or []] == ["", "make"]


def test_images_of_another_platform_are_passed_over(shop: Shop) -> None:
    content = docker_archive(LAYER, tags=["app:1"])
    assert shop.load(content, platform=Platform.parse("linux/s390x")) == []
    assert shop.listed() == []


BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "does not contain a manifest.json"),
    "no archive": (b"x" * 2000, "invalid archive"),
    "broken gzip": (b"\x1f\x8b\x08" + b"x" * 100, "broken gzip stream"),
    "no manifest": (archive(file("x")), "does not contain a manifest.json"),
    "manifest null": (archive(document("manifest.json", None)), "manifest cannot be null"),
    "manifest of another type": (archive(document("manifest.json", {"a": 1})), "failed to decode"),
    "manifest of bytes": (archive(document("manifest.json", b"\xff\xff")), "failed to decode"),
    "no config": (
        archive(document("manifest.json", [{"Config": "c", "RepoTags": None, "Layers": None}])),
        "does not contain a c",
    ),
    "config outside": (
        archive(
            document(
                "manifest.json",
                [{"Config": "../../../etc/hostname", "RepoTags": None, "Layers": None}],
            )
        ),
        "does not contain",
    ),
    "config by a link to the host": (
        archive(
            document("manifest.json", [{"Config": "c", "RepoTags": None, "Layers": None}]),
            symlink("c", "/etc/hostname"),
        ),
        "does not contain a c",
    ),
    "links in a circle": (
        archive(symlink("manifest.json", "b"), symlink("b", "manifest.json")),
        "does not contain a manifest.json",
    ),
    "config that is none": (docker_archive().replace(b'"rootfs"', b'"rootsf"'), "invalid"),
    "fewer layers": (docker_archive(LAYER, Layers=[]), "layers length mismatch: expected 0, got 1"),
    "missing layer": (docker_archive(LAYER, Layers=["nope"]), "layer 0 is missing"),
    "other layer": (
        docker_archive(LAYER, Layers=["config.json"]),
        "invalid diffID for layer 0",
    ),
    "tag that is none": (docker_archive(LAYER, tags=["Not A Tag"]), "invalid reference format"),
    "tag without tag": (docker_archive(LAYER, tags=["app"]), 'invalid tag "app"'),
    "name outside": (archive(file("../manifest.json", b"[]")), "invalid entry name"),
    "windows image": (
        docker_archive(LAYER).replace(b'"os":"linux"', b'"os":"other"'),
        "cannot load other image on linux",
    ),
    "layout with a wrong digest": (
        layout().replace(b'"schemaVersion":2,"config"', b'"schemaVersion":3,"config"'),
        "does not match its digest",
    ),
    "layout with a climbing digest": (
        archive(
            document("oci-layout", {}),
            document("index.json", {"manifests": [{"digest": "sha256:../../x", "size": 1}]}),
        ),
        "invalid checksum digest",
    ),
    "legacy image that is its own parent": (
        archive(
            document("repositories", {"a": {"b": "x"}}),
            document("x/json", {"parent": "x"}),
            document("x/layer.tar", LAYER),
        ),
        "max depth exceeded",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_archive_is_refused_and_leaves_nothing(shop: Shop, name: str) -> None:
    content, problem = BROKEN[name]
    with pytest.raises(InvalidArgument, match=problem):
        shop.load(content)
    run(shop.images.prune({}))  # what came before the fault is whole, and has no name
    assert shop.listed(all=True) == []
    assert shop.blobs() == set()
    assert shop.mounter.parents == {}


def test_a_file_of_the_host_is_never_read(shop: Shop, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_bytes(config(LAYER))
    item = {"Config": "c", "RepoTags": ["app:1"], "Layers": ["l"]}
    for target in (str(secret), os.path.relpath(secret, "/")):
        content = archive(
            document("manifest.json", [item]), symlink("c", target), document("l", LAYER)
        )
        with pytest.raises(InvalidArgument):
            shop.load(content)


def test_a_load_whose_reader_goes_away_leaves_a_whole_store(shop: Shop) -> None:
    content = docker_archive(LAYER, archive(file("b")), tags=["app:1"])

    async def one_message() -> None:
        messages = shop.images.load(stream(content), quiet=False)
        await anext(messages)
        await messages.aclose()  # type: ignore[attr-defined]

    run(one_message())
    assert shop.mounter.parents == {}
    assert shop.blobs() == set()
