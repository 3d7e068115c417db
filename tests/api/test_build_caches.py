"""Caches of builds that are stored elsewhere: written, used, and not believed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError

from sampan.spec.buildkit.control_pb2 import CacheOptions, CacheOptionsEntry
from tests import buildkit, tarballs
from tests.buildkit import Folders, Result
from tests.daemon import Daemon
from tests.registries import OURS, Registry, registry

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
RECIPE = (
    "FROM busybox AS tools\nRUN echo $RANDOM $(date +%s%N) >/tool\n"
    "FROM busybox\nWORKDIR /work\nCOPY sub /sub\nCOPY --from=tools /tool /tool\n"
    "RUN date +%s%N >/time\nRUN true\nLABEL a=b"
)
FINAL = [f"[stage-1 {number}/6]" for number in (2, 3, 4, 5, 6)]


@pytest.fixture
def clean(daemon: Daemon) -> Iterator[Daemon]:
    """Give a daemon, and leave it no images of this test and no cache."""
    yield daemon
    forget(daemon)


@pytest.fixture(scope="module")
def hub(shared_daemon: Daemon) -> Iterator[Registry]:
    """Our own registry; tests/api/test_build_outputs.py has Debian's."""
    with registry(shared_daemon.namespace, program=OURS) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "context" / "sub").mkdir(parents=True)
    (tmp_path / "context" / "sub" / "file").write_text("content\n")
    return tmp_path / "context"


def forget(daemon: Daemon) -> None:
    """Let a daemon be like one that has never built anything."""
    daemon.remove_other_images()
    assert daemon.request("POST", "/build/prune?all=1").status == 200


def entry(kind: str, **attributes: str) -> CacheOptionsEntry:
    names = {name.replace("_", "-"): value for name, value in attributes.items()}
    return CacheOptionsEntry(Type=kind, Attrs=names)


def build(
    daemon: Daemon,
    folder: Path,
    tags: str = "made",
    *,
    to: CacheOptionsEntry | None = None,
    of: CacheOptionsEntry | None = None,
    stores: dict[str, Path] | None = None,
    recipe: str = RECIPE,
    **more: Any,
) -> Result:
    (folder / "Dockerfile").write_text(recipe)
    served = Folders({"context": folder, "dockerfile": folder}, stores=stores or {})
    cache = CacheOptions(Exports=[to] if to else [], Imports=[of] if of else [])
    return asyncio.run(buildkit.build(daemon.socket, served, tags, cache=cache, **more))


def _shown(value: Any) -> str:
    if isinstance(value, CacheOptionsEntry):
        return f"{value.Type} {sorted(value.Attrs.items())}"
    return str(value)


def cached(made: Result) -> list[str]:
    return [name[: name.index("]") + 1] for name in made.cached]


def digest(made: Result) -> str:
    return made.response["containerimage.config.digest"]


@pytest.mark.parametrize(
    "more",
    [{}, {"image_manifest": "false"}, {"oci_mediatypes": "false"}, {"compression": "zstd"}],
    ids=str,
)
def test_a_cache_in_a_registry_gives_the_same_image_on_another_machine(
    clean: Daemon, hub: Registry, folder: Path, more: dict[str, str]
) -> None:
    ref = f"{hub.address}/cache:{len(more)}"
    first = build(clean, folder, to=entry("registry", ref=ref, mode="max", **more))
    told = json.loads(first.response["cache.manifest"])
    assert told["digest"].startswith("sha256:")
    forget(clean)
    second = build(clean, folder, of=entry("registry", ref=ref))
    assert cached(second) == ["[tools 2/2]", *FINAL]
    assert digest(second) == digest(first)
    assert f"importing cache manifest from {ref}" in second.names


def test_a_small_cache_has_the_layers_of_the_image_alone(
    clean: Daemon, hub: Registry, folder: Path
) -> None:
    ref = f"{hub.address}/small"
    build(clean, folder, to=entry("registry", ref=ref, mode="min"))
    forget(clean)
    second = build(clean, folder, of=entry("registry", ref=ref))
    assert "[tools 2/2]" not in cached(second)
    assert "[stage-1 3/6]" in cached(second)


def test_a_cache_in_a_folder_of_the_client(clean: Daemon, folder: Path, tmp_path: Path) -> None:
    stores = {"local:/there": tmp_path / "cache"}
    first = build(clean, folder, to=entry("local", dest="/there", mode="max"), stores=stores)
    manifest = json.loads(first.response["cache.manifest"])
    forget(clean)
    source = entry("local", src="/there", digest=manifest["digest"])
    second = build(clean, folder, of=source, stores=stores)
    assert digest(second) == digest(first)
    assert cached(second) == ["[tools 2/2]", *FINAL]
    forget(clean)
    named = json.dumps([{"Type": "local", "Attrs": dict(source.Attrs)}])
    third = build(clean, folder, stores=stores, **{"cache-imports": named})
    assert digest(third) == digest(first)


def test_an_image_tells_of_its_steps(clean: Daemon, hub: Registry, folder: Path) -> None:
    name = f"{hub.address}/inline:1"
    push = [("moby", {"push": "true"})]
    first = build(clean, folder, name, to=entry("inline"), kinds=push)
    forget(clean)
    second = build(clean, folder, name, of=entry("registry", ref=name), to=entry("inline"))
    assert [name for name in FINAL if name not in cached(second)] == FINAL[2:]
    forget(clean)
    assert clean.request("POST", f"/images/create?fromImage={name}").status == 200
    assert clean.request("GET", f"/images/{name}/json").json["Id"] == digest(first)
    (folder / "Dockerfile").write_text("FROM busybox\nWORKDIR /work\nCOPY sub /sub\n")
    classic = _classic(clean, folder, name)
    assert classic.count("Using cache") == 2


def _classic(daemon: Daemon, folder: Path, cache: str) -> str:
    archive = tarballs.archive(
        tarballs.file("Dockerfile", (folder / "Dockerfile").read_bytes()),
        tarballs.file("sub/file", b"content\n"),
    )
    query = f'cachefrom=["{cache}"]'.replace('"', "%22")
    answer = daemon.request("POST", f"/build?{query}", archive)
    lines = [json.loads(line) for line in answer.body.splitlines()]
    return "".join(line.get("stream", "") for line in lines)


def test_what_came_from_a_cache_counts_for_the_build_that_named_it_only(
    clean: Daemon, hub: Registry, folder: Path
) -> None:
    ref = f"{hub.address}/own"
    recipe = "FROM busybox\nRUN date +%s%N >/time"
    build(clean, folder, to=entry("registry", ref=ref), recipe=recipe)
    forget(clean)
    assert cached(build(clean, folder, of=entry("registry", ref=ref), recipe=recipe)) == ["[2/2]"]
    assert cached(build(clean, folder, recipe=recipe)) == []


# --- hostile caches ----------------------------------------------------------------------------


class Folder:
    """A client's folder with a cache that says what a test wants."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs" / "sha256").mkdir(parents=True)

    def blob(self, content: bytes) -> dict[str, Any]:
        name = hashlib.sha256(content).hexdigest()
        (self.root / "blobs" / "sha256" / name).write_bytes(content)
        return {"digest": f"sha256:{name}", "size": len(content), "mediaType": "x/y"}

    def change(self, digest: str, change: Any) -> str:
        """Store a document of the folder changed; return its new digest."""
        old = (self.root / "blobs" / digest.replace(":", "/")).read_bytes()
        return str(self.blob(json.dumps(change(json.loads(old))).encode())["digest"])


def _with_config(folder: Folder, digest: str, change: Any) -> str:
    """Change the records of a cache; return the digest of its new manifest."""

    def manifest(document: Any) -> Any:
        config = document["config"]
        new = folder.change(config["digest"], change)
        size = (folder.root / "blobs" / new.replace(":", "/")).stat().st_size
        return {**document, "config": {**config, "digest": new, "size": size}}

    return folder.change(digest, manifest)


def _orphans(document: Any) -> Any:
    """Say that no layer has one below it: so it is not made of what the build has."""
    for layer in document["layers"]:
        layer["parent"] = -1
    return document


def _loop(document: Any) -> Any:
    document["layers"][0]["parent"] = len(document["layers"]) - 1
    return document


def _far(document: Any) -> Any:
    document["records"][0]["layers"] = [{"layer": 1 << 40, "createdAt": "2020-01-01T00:00:00Z"}]
    return document


def _timeless(document: Any) -> Any:
    for record in document["records"]:
        for result in record.get("layers", []) + record.get("chains", []):
            result["createdAt"] = "yesterday"
    return document


@pytest.mark.parametrize("change", [_orphans, _loop, _far, _timeless, lambda _: [1, 2]])
def test_a_cache_that_lies_is_not_used_and_stops_no_build(
    clean: Daemon, folder: Path, tmp_path: Path, change: Any
) -> None:
    cache = Folder(tmp_path / "cache")
    stores = {"local:/there": cache.root}
    recipe = "FROM busybox\nCOPY sub /sub\nRUN echo x >/x"
    first = build(
        clean, folder, to=entry("local", dest="/there", mode="max"), stores=stores, recipe=recipe
    )
    told = json.loads(first.response["cache.manifest"])
    forget(clean)
    bad = _with_config(cache, told["digest"], change)
    second = build(
        clean, folder, of=entry("local", src="/there", digest=bad), stores=stores, recipe=recipe
    )
    assert cached(second) == []
    image = clean.request("GET", f"/images/{digest(second)}/json").json
    assert image["RootFS"]["Layers"][:1] == _base(clean)


def _base(daemon: Daemon) -> list[str]:
    layers: list[str] = daemon.request("GET", "/images/busybox/json").json["RootFS"]["Layers"]
    return layers


def test_the_content_of_layers_is_checked(clean: Daemon, folder: Path, tmp_path: Path) -> None:
    cache = Folder(tmp_path / "cache")
    stores = {"local:/there": cache.root}
    recipe = "FROM busybox\nRUN echo honest >/x"
    first = build(clean, folder, to=entry("local", dest="/there"), stores=stores, recipe=recipe)
    told = json.loads(first.response["cache.manifest"])
    forget(clean)
    manifest = json.loads((cache.root / "blobs" / told["digest"].replace(":", "/")).read_bytes())
    top = cache.root / "blobs" / manifest["layers"][-1]["digest"].replace(":", "/")
    honest = top.read_bytes()
    source = entry("local", src="/there", digest=told["digest"])
    for content in (honest[:-1], honest + b"x", b"\0" * len(honest)):
        top.write_bytes(content)
        second = build(clean, folder, of=source, stores=stores, recipe=recipe)
        assert cached(second) == []
        forget(clean)

    # A layer that is what its manifest says, but not what it is said to contain.
    def swapped(document: Any) -> Any:
        for layer in document["layers"]:
            layer["annotations"]["containerd.io/uncompressed"] = "sha256:" + "0" * 64
        return document

    top.write_bytes(honest)
    bad = cache.change(told["digest"], swapped)
    source = entry("local", src="/there", digest=bad)
    assert cached(build(clean, folder, of=source, stores=stores, recipe=recipe)) == []


@pytest.mark.parametrize(
    "source",
    [
        entry("registry", ref="127.0.0.1:1/none"), entry("registry", ref="NO NAME"),
        entry("registry"), entry("gha"), entry("local", src="/none", digest="sha256:" + "0" * 64),
        entry("local", src="/there", digest="x"),
    ],
    ids=_shown,
)  # fmt: skip
def test_a_cache_that_is_not_there_is_told_and_stops_no_build(
    clean: Daemon, folder: Path, source: CacheOptionsEntry
) -> None:
    made = build(clean, folder, of=source, recipe="FROM busybox\nLABEL a=b")
    [vertex] = [one for one in made.vertices.values() if "importing cache" in one.name]
    assert vertex.error


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        (entry("registry", ref="127.0.0.1:1/none"), "connection refused"),
        (entry("gha"), "cache export to gha is not supported"),
        (entry("registry"), "registry cache exporter requires ref"),
        (entry("local"), "local cache exporter requires dest"),
        (entry("local", dest="/none"), "the client has no store local:/none"),
        (entry("inline", mode="most"), "invalid cache export mode: most"),
        (entry("registry", ref="x", oci_mediatypes="0", image_manifest="1"), "OCI mediatypes are"),
    ],
    ids=_shown,
)
def test_a_cache_that_cannot_be_stored_is_an_error(
    clean: Daemon, folder: Path, wish: CacheOptionsEntry, sentence: str
) -> None:
    recipe = "FROM busybox\nRUN echo x >/x"
    with pytest.raises(GRPCError, match=sentence):
        build(clean, folder, to=wish, recipe=recipe)
    if "refused" in sentence:
        wish.Attrs["ignore-error"] = "true"
        assert build(clean, folder, to=wish, recipe=recipe).response["image.name"] == "made"


def test_an_image_whose_records_are_nonsense_is_used_all_the_same(
    clean: Daemon, folder: Path, tmp_path: Path
) -> None:
    stores = {"local:/there": tmp_path / "cache"}
    cache = Folder(tmp_path / "cache")
    diff = base64.b64encode(b'[{"digest":"sha256:x","layers":[{"layer":-5}]}]').decode()
    config = {"rootfs": {"diff_ids": ["sha256:" + "1" * 64]}, "moby.buildkit.cache.v0": diff}
    layer = cache.blob(b"layer")
    config_blob = cache.blob(json.dumps(config).encode())
    manifest = cache.blob(
        json.dumps({"schemaVersion": 2, "config": config_blob, "layers": [layer]}).encode()
    )
    source = entry("local", src="/there", digest=manifest["digest"])
    made = build(clean, folder, of=source, stores=stores, recipe="FROM busybox\nLABEL a=b")
    assert made.response["image.name"] == "made"
