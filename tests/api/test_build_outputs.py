"""Outputs of builds as images: archives, folders, registries, for one platform and several."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from grpclib.exceptions import GRPCError

from tests import buildkit
from tests.buildkit import Folders, Output, Result
from tests.daemon import Daemon
from tests.registries import Registry, registry
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
RECIPE = "FROM busybox\nCOPY sub /sub\nRUN echo made >/made\nLABEL a=b"
MANY = (
    "FROM --platform=$BUILDPLATFORM busybox AS tools\nARG TARGETPLATFORM\nARG BUILDPLATFORM\n"
    "RUN echo $TARGETPLATFORM by $BUILDPLATFORM >/for\nFROM scratch\nCOPY --from=tools /for /for"
)
BOTH = {"platform": "linux/amd64,linux/arm64"}


@pytest.fixture(scope="module")
def hub(shared_daemon: Daemon) -> Iterator[Registry]:
    """A registry that the daemon can reach."""
    with registry(shared_daemon.namespace) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "context" / "sub").mkdir(parents=True)
    (tmp_path / "context" / "sub" / "file").write_text("content\n")
    return tmp_path / "context"


def build(
    daemon: Daemon,
    folder: Path,
    recipe: str,
    tags: str,
    *outputs: Output,
    files: dict[str, Path] | None = None,
    **more: Any,
) -> Result:
    (folder / "Dockerfile").write_text(recipe)
    served = Folders({"context": folder, "dockerfile": folder}, outputs=files or {})
    return asyncio.run(buildkit.build(daemon.socket, served, tags, outputs, **more))


def blobs(archive: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(archive) as opened:
        for member in opened:
            if file := opened.extractfile(member):
                found[member.name.removeprefix("blobs/sha256/")] = file.read()
    return found


def document(found: dict[str, bytes], digest: str) -> Any:
    return json.loads(found[digest.removeprefix("sha256:")])


def skopeo(place: str) -> Any:
    told = subprocess.run(["skopeo", "inspect", place], capture_output=True, check=True)
    return json.loads(told.stdout)


def in_registry(daemon: Daemon, hub: Registry, name: str) -> Any:
    """Return a manifest or index of the registry."""
    repository, _, reference = name.rpartition("@" if "@" in name else ":")
    kinds = "application/vnd.oci.image.index.v1+json,application/vnd.oci.image.manifest.v1+json"
    command = ["curl", "-sSf", "-H", f"Accept: {kinds}"]
    url = f"{hub.url}/v2/{repository}/manifests/{reference}"
    asked = subprocess.run([*daemon.enter, *command, url], capture_output=True, check=True)
    return json.loads(asked.stdout)


def test_an_oci_archive_is_what_others_read(clean: Daemon, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    made = build(clean, folder, RECIPE, "made:1", "oci", files={"0": out})
    found = blobs(out)
    [entry] = json.loads(found["index.json"])["manifests"]
    assert entry["digest"] == made.response["containerimage.digest"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1"
    assert made.response["image.name"] == "docker.io/library/made:1"
    told = json.loads(base64.b64decode(made.response["containerimage.descriptor"]))
    assert told["digest"] == entry["digest"]
    assert told["platform"] == {"architecture": "amd64", "os": "linux"}
    manifest = document(found, entry["digest"])
    assert manifest["config"]["digest"] == made.response["containerimage.config.digest"]
    inspected = skopeo(f"oci-archive:{out}")
    assert inspected["Labels"] == {"a": "b"}
    assert inspected["Layers"] == [layer["digest"] for layer in manifest["layers"]]


def test_a_docker_archive_is_loaded(clean: Daemon, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    made = build(clean, folder, RECIPE, "made:2", "docker", files={"0": out})
    assert clean.request("GET", "/images/made:2/json").status == 404
    loaded = clean.request("POST", "/images/load", out.read_bytes())
    assert b"Loaded image: made:2" in loaded.body
    image = clean.request("GET", "/images/made:2/json").json
    assert image["Id"] == made.response["containerimage.config.digest"]
    assert skopeo(f"docker-archive:{out}")["Labels"] == {"a": "b"}


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"compression": "zstd"}, "application/vnd.oci.image.layer.v1.tar+zstd"),
        ({"compression": "zstd", "compression-level": "9"},
         "application/vnd.oci.image.layer.v1.tar+zstd"),
        ({"compression": "uncompressed"}, "application/vnd.oci.image.layer.v1.tar"),
        ({"compression-level": "9"}, "application/vnd.oci.image.layer.v1.tar+gzip"),
        ({"oci-mediatypes": "false"}, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ],
)  # fmt: skip
def test_a_folder_of_the_client_becomes_a_layout(
    clean: Daemon, folder: Path, tmp_path: Path, attributes: dict[str, str], kind: str
) -> None:
    out = tmp_path / "layout"
    (folder / "Dockerfile").write_text(RECIPE)
    served = Folders({"context": folder, "dockerfile": folder}, stores={"export": out})
    output = ("oci", {"tar": "false", **attributes})
    made = asyncio.run(buildkit.build(clean.socket, served, "made", [output]))
    told = json.loads(base64.b64decode(made.response["containerimage.descriptor"]))
    (out / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (out / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [told]}))
    manifest = json.loads((out / "blobs" / told["digest"].replace(":", "/")).read_bytes())
    assert {layer["mediaType"] for layer in manifest["layers"]} == {kind}
    copied = f"oci-archive:{tmp_path / 'copied.tar'}"
    subprocess.run(["skopeo", "copy", f"oci:{out}", copied], check=True, capture_output=True)


def test_annotations_go_where_they_belong(clean: Daemon, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    marks = {
        "annotation.plain": "1", "annotation-manifest[linux/arm64].arm": "2",
        "annotation-index.index": "3", "annotation-manifest-descriptor.entry": "4",
        "annotation-index-descriptor.root": "5",
    }  # fmt: skip
    made = build(clean, folder, MANY, "made", ("oci", marks), files={"0": out}, **BOTH)
    found = blobs(out)
    told = json.loads(base64.b64decode(made.response["containerimage.descriptor"]))
    assert told["annotations"]["root"] == "5"
    index = document(found, told["digest"])
    assert index["annotations"] == {"index": "3"}
    assert [one["annotations"] for one in index["manifests"]] == [{"entry": "4"}] * 2
    amd, arm = (document(found, one["digest"]) for one in index["manifests"])
    assert amd["annotations"] == {"plain": "1"}
    assert arm["annotations"] == {"arm": "2", "plain": "1"}


def test_a_pushed_image_has_the_digest_that_is_told(
    clean: Daemon, hub: Registry, folder: Path
) -> None:
    name, other = f"{hub.address}/team/made:1", f"{hub.address}/other/made:2"
    made = build(clean, folder, RECIPE, f"{name},{other}", ("moby", {"push": "true"}))
    digest = made.response["containerimage.digest"]
    assert made.response["image.name"] == f"{name},{other}"
    manifest = in_registry(clean, hub, f"team/made@{digest}")
    assert in_registry(clean, hub, "other/made:2") == manifest
    assert manifest["config"]["digest"] == made.response["containerimage.config.digest"]
    image = clean.request("GET", f"/images/{name}/json").json
    assert f"{hub.address}/team/made@{digest}" in image["RepoDigests"]
    clean.remove_other_images()
    query = f"fromImage={hub.address}/team/made&tag=1"
    assert clean.request("POST", f"/images/create?{query}").status == 200
    pulled = clean.request("GET", f"/images/{name}/json").json
    assert pulled["Id"] == image["Id"]


def test_an_image_may_be_pushed_without_a_tag_and_not_be_kept(
    clean: Daemon, hub: Registry, folder: Path
) -> None:
    name = f"{hub.address}/bare"
    by_digest = ("moby", {"push": "true", "push-by-digest": "true", "store": "false"})
    made = build(clean, folder, RECIPE, name, by_digest)
    digest = made.response["containerimage.digest"]
    assert in_registry(clean, hub, f"bare@{digest}")["schemaVersion"] == 2
    with pytest.raises(subprocess.CalledProcessError):
        in_registry(clean, hub, "bare:latest")
    assert clean.request("GET", f"/images/{name}/json").status == 404
    named = ("moby", {"name-canonical": "true", "compression": "zstd"})
    made = build(clean, folder, RECIPE, name, named)
    digest = made.response["containerimage.digest"]
    image = clean.request("GET", f"/images/{name}/json").json
    assert image["RepoDigests"] == [f"{name}@{digest}"]


def test_layers_keep_the_form_that_they_have_unless_they_are_forced(
    clean: Daemon, hub: Registry, folder: Path
) -> None:
    base = f"{hub.address}/forms/base"
    build(clean, folder, RECIPE, base, ("moby", {"push": "true"}))
    recipe, name = f"FROM {base}\nRUN echo top >/top", f"{hub.address}/forms/top"
    kinds = []
    for force in ("false", "true"):
        attributes = {"push": "true", "compression": "zstd", "force-compression": force}
        made = build(clean, folder, recipe, name, ("moby", attributes))
        manifest = in_registry(clean, hub, f"forms/top@{made.response['containerimage.digest']}")
        kinds.append([one["mediaType"].rpartition("+")[2] for one in manifest["layers"]])
    assert kinds == [["gzip"] * 3 + ["zstd"], ["zstd"] * 4]


def test_a_client_that_leaves_an_output_leaves_nothing(clean: Daemon, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nCOPY sub /sub")
    served = _Silent({"context": folder, "dockerfile": folder})

    def open_files() -> int:
        found = 0
        for pid in clean.processes():
            with contextlib.suppress(OSError):  # it has ended
                found += len(os.listdir(f"/proc/{pid}/fd"))
        return found

    build(clean, folder, RECIPE, "made", "moby")  # what is loaded once is there
    before = open_files()

    async def leave() -> None:
        task = asyncio.ensure_future(buildkit.build(clean.socket, served, "made", ["oci"]))
        await asyncio.to_thread(served.begun.wait)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(leave())
    eventually(lambda: open_files() <= before)


class _Silent(Folders):
    """A client that asks for an archive, and does not read it."""

    def __init__(self, folders: dict[str, Path]) -> None:
        super().__init__(folders)
        self.begun = threading.Event()

    async def take(self, stream: Any) -> None:
        self.begun.set()
        await asyncio.Event().wait()


def test_a_push_shows_the_passwords_of_the_client(clean: Daemon, folder: Path) -> None:
    with registry(clean.namespace, users={"me": "secret"}) as closed:
        name = f"{closed.address}/made"
        (folder / "Dockerfile").write_text(RECIPE)
        served = Folders({"context": folder, "dockerfile": folder})
        push = [("moby", {"push": "true"})]
        with pytest.raises(GRPCError, match="no basic auth credentials"):
            asyncio.run(buildkit.build(clean.socket, served, name, push))
        served.passwords = {closed.address: ("me", "secret")}
        made = asyncio.run(buildkit.build(clean.socket, served, name, push))
        assert made.response["containerimage.digest"].startswith("sha256:")


def test_several_platforms_make_one_index(
    clean: Daemon, hub: Registry, folder: Path, tmp_path: Path
) -> None:
    name, out = f"{hub.address}/many:1", tmp_path / "out.tar"
    made = build(
        clean, folder, MANY, name, ("moby", {"push": "1"}), "oci", files={"1": out}, **BOTH
    )
    platforms = json.loads(made.metadata["refs.platforms"])["Platforms"]
    assert [one["ID"] for one in platforms] == ["linux/amd64", "linux/arm64"]
    assert "[linux/arm64 tools 2/2] RUN" in " ".join(made.names)
    index = in_registry(clean, hub, "many:1")
    told = [one["platform"]["architecture"] for one in index["manifests"]]
    assert told == ["amd64", "arm64"]
    assert document(blobs(out), made.response["containerimage.digest"]) == index
    clean.remove_other_images()
    for architecture in ("arm64", "amd64"):
        query = f"fromImage={hub.address}/many&tag=1&platform=linux/{architecture}"
        assert clean.request("POST", f"/images/create?{query}").status == 200
        one = quote(json.dumps({"os": "linux", "architecture": architecture}))
        saved = clean.request("GET", f"/images/{name}/get?platform={one}").body
        assert f"linux/{architecture} by linux/amd64\n".encode() in _layer(saved)


def _layer(saved: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(saved)) as opened:
        files = [opened.extractfile(member) for member in opened if member.isfile()]
        return b"".join(file.read() for file in files if file)


def test_an_index_of_here_is_pushed_later_as_it_is(
    clean: Daemon, hub: Registry, folder: Path
) -> None:
    name = f"{hub.address}/later:1"
    made = build(clean, folder, MANY, name, "moby", **BOTH)
    assert clean.request("POST", f"/images/{hub.address}/later/push?tag=1", headers={
        "X-Registry-Auth": "e30="}).status == 200  # fmt: skip
    digest = made.response["containerimage.digest"]
    assert len(in_registry(clean, hub, f"later@{digest}")["manifests"]) == 2


def test_files_of_several_platforms_have_folders_of_their_own(
    clean: Daemon, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    build(clean, folder, MANY, "", "local", files={"0": out}, **BOTH)
    assert (out / "linux_arm64" / "for").read_text() == "linux/arm64 by linux/amd64\n"
    assert (out / "linux_amd64" / "for").read_text() == "linux/amd64 by linux/amd64\n"
    split = ("local", {"platform-split": "false"})
    with pytest.raises(GRPCError, match="cannot overwrite for from another platform"):
        build(clean, folder, MANY, "", split, files={"0": out}, **BOTH)


def test_a_command_of_another_machine_is_refused(clean: Daemon, folder: Path) -> None:
    elf = bytes.fromhex("7f454c4602010100") + bytes(8) + bytes.fromhex("0200b700") + bytes(44)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as opened:
        info = tarfile.TarInfo("bin/sh")
        info.size, info.mode = len(elf), 0o755
        opened.addfile(info, io.BytesIO(elf))
    query = "fromSrc=-&repo=foreign&platform=linux/arm64"
    assert clean.request("POST", f"/images/create?{query}", archive.getvalue()).status == 200
    with pytest.raises(GRPCError, match="exec format error"):
        build(clean, folder, "FROM foreign\nRUN true", "made", platform="linux/arm64")


@pytest.mark.parametrize(
    ("output", "platform", "sentence"),
    [
        (("oci", {"compression": "estargz"}), "", 'type "estargz" is not supported'),
        (("oci", {"compression": "zstd", "oci-mediatypes": "0"}), "", "conflicts with"),
        (("oci", {"compression-level": "10"}), "", "invalid compression level: 10"),
        (("oci", {"tar": "perhaps"}), "", "non-bool value specified for tar: perhaps"),
        (("oci", {"annotation-index.a": "b"}), "", "not supported for single platform export"),
        (("oci", {"annotation-what.a": "b"}), "", "unrecognized annotation type what"),
        (("oci", {"annotation[linux/arm].a": "b"}), "", "no platform linux/arm/v7 found"),
        ("docker", BOTH["platform"], "does not currently support exporting manifest lists"),
        (("moby", {"push": "true"}), "", "tag is needed when pushing to registry"),
        (("moby", {"registry.insecure": "true"}), "", "name the registry in insecure-registries"),
    ],
)  # fmt: skip
def test_outputs_that_cannot_be_are_refused(
    clean: Daemon, folder: Path, output: Output, platform: str, sentence: str
) -> None:
    with pytest.raises(GRPCError, match=sentence.replace("(", r"\(")):
        build(clean, folder, MANY, "", output, platform=platform)
