"""What is said of results of builds: provenance and SBOMs, in indexes and beside files."""

from __future__ import annotations

import asyncio
import base64
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import UnaryStreamMethod
from grpclib.exceptions import GRPCError

from sampan.spec.buildkit import content_pb2, control_pb2
from tests import buildkit
from tests.buildkit import Folders, Output, Result
from tests.daemon import Daemon
from tests.registries import registry

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
RECIPE = "FROM busybox\nARG PASSWORD\nRUN --mount=type=secret,id=key echo made >/made"
SPDX, SLSA = "https://spdx.dev/Document", "https://slsa.dev/provenance/v1"
DEFAULT = {"attest:provenance": "mode=min,inline-only=true"}  # what buildx asks for by itself
CONTENT = "/containerd.services.content.v1.Content/"
SCAN = """#!/bin/sh
set -e
echo scanning
if touch $BUILDKIT_SCAN_SOURCE/x 2>/dev/null; then exit 9; fi
name=$(cat $BUILDKIT_SCAN_SOURCE/made)
printf '{"predicateType":"%s","predicate":{"name":"%s","word":"%s"}}' \\
  ${BUILDKIT_SCAN_KIND:-https://spdx.dev/Document} $name $BUILDKIT_SCAN_WORD \\
  >$BUILDKIT_SCAN_DESTINATION/${BUILDKIT_SCAN_SOURCE##*/}.spdx.json
for place in ${BUILDKIT_SCAN_SOURCE_EXTRAS:+$BUILDKIT_SCAN_SOURCE_EXTRAS/*}; do
  if touch $place/x 2>/dev/null; then exit 9; fi
  printf '{"predicateType":"https://spdx.dev/Document","predicate":{"name":"%s"}}' \\
    "$(cat $place/made)" >$BUILDKIT_SCAN_DESTINATION/${place##*/}.spdx.json
done
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "context").mkdir()
    return tmp_path / "context"


@pytest.fixture
def generator(clean: Daemon, folder: Path) -> str:
    """An image that lists what is in another, by BuildKit's protocol."""
    (folder / "scan").write_text(SCAN)
    (folder / "scan").chmod(0o755)
    recipe = 'FROM busybox\nCOPY scan /bin/scan\nENTRYPOINT ["scan"]'
    build(clean, folder, recipe, "generator", "moby")
    return "generator"


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


def statements(archive: Path) -> list[list[Any]]:
    """Return what the index of an archive says of each of its images."""
    with tarfile.open(archive) as opened:
        found = {
            member.name.rpartition("/")[2]: file.read()
            for member in opened
            if (file := opened.extractfile(member))
        }

    def document(entry: Any) -> Any:
        return json.loads(found[entry["digest"].removeprefix("sha256:")])

    [root] = json.loads(found["index.json"])["manifests"]
    told = []
    for entry in document(root).get("manifests", []):
        if "annotations" in entry:
            assert entry["platform"] == {"architecture": "unknown", "os": "unknown"}
            told.append([document(layer) for layer in document(entry)["layers"]])
    return told


def test_provenance_says_how_an_image_was_made(clean: Daemon, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    wanted = {"attest:provenance": "mode=max", "build-arg:PASSWORD": "x", "filename": "Dockerfile"}
    made = build(clean, folder, RECIPE, "made:1", "oci", files={"0": out}, **wanted)
    [[statement]] = statements(out)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == SLSA
    [subject] = statement["subject"]
    assert subject["name"] == "pkg:docker/made@1?platform=linux%2Famd64"
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["configSource"] == {"path": "Dockerfile"}
    request = definition["externalParameters"]["request"]
    assert request["args"] == {"build-arg:PASSWORD": "x"}
    assert request["secrets"] == [{"id": "key", "optional": True}]
    [material] = definition["resolvedDependencies"]
    assert material["uri"] == "pkg:docker/busybox@latest?platform=linux%2Famd64"
    metadata = statement["predicate"]["runDetails"]["metadata"]
    [info] = metadata["buildkit_metadata"]["source"]["infos"]
    assert base64.b64decode(info["data"]).decode() == RECIPE
    told = json.loads(base64.b64decode(made.response["containerimage.descriptor"]))
    assert told["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert "containerimage.config.digest" not in made.response


def test_the_small_provenance_keeps_arguments_to_itself(
    clean: Daemon, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.tar"
    wanted = {"attest:provenance": "mode=min,version=v0.2,builder-id=me,reproducible=true",
              "build-arg:PASSWORD": "x"}  # fmt: skip
    build(clean, folder, RECIPE, "", "oci", files={"0": out}, **wanted)
    [[statement]] = statements(out)
    assert statement["predicateType"] == "https://slsa.dev/provenance/v0.2"
    assert "PASSWORD" not in json.dumps(statement)
    predicate = statement["predicate"]
    assert predicate["builder"] == {"id": "me"}
    assert predicate["metadata"]["completeness"]["parameters"] is False
    assert predicate["metadata"]["reproducible"] is True
    assert statement["subject"] == []


def test_what_nobody_asked_for_costs_local_images_nothing(
    clean: Daemon, folder: Path, tmp_path: Path
) -> None:
    out, files = tmp_path / "out.tar", tmp_path / "files"
    files.mkdir()
    outputs: list[Output] = ["moby", "oci", "local"]
    served = {"1": out, "2": files}
    made = build(clean, folder, RECIPE, "made", *outputs, files=served, **DEFAULT)
    image = clean.request("GET", "/images/made/json").json
    assert made.response["containerimage.config.digest"] == image["Id"]
    assert image["RepoDigests"] == []
    assert statements(out) == []
    assert not (files / "provenance.json").exists()


def test_a_push_has_the_provenance_that_nobody_asked_for(clean: Daemon, folder: Path) -> None:
    with registry(clean.namespace) as hub:
        name = f"{hub.address}/made"
        push = ("moby", {"push": "true"})
        made = build(clean, folder, RECIPE, name, push, **DEFAULT)
        told = json.loads(base64.b64decode(made.response["containerimage.descriptor"]))
        assert told["mediaType"] == "application/vnd.oci.image.index.v1+json"
        clean.remove_other_images()
        query = f"fromImage={name}&tag=latest"
        assert clean.request("POST", f"/images/create?{query}").status == 200
        listed = clean.request("GET", "/images/json?manifests=1").json
        [image] = [one for one in listed if name + ":latest" in (one["RepoTags"] or [])]
        kinds = [manifest["Kind"] for manifest in image["Manifests"]]
        assert kinds == ["image", "attestation"]
        old = ("moby", {"push": "true", "oci-mediatypes": "false"})
        made = build(clean, folder, RECIPE, name, old, **DEFAULT)
        told = json.loads(base64.b64decode(made.response["containerimage.descriptor"]))
        assert "manifest.v2" in told["mediaType"]


def test_a_generator_says_what_is_in_an_image(
    clean: Daemon, folder: Path, generator: str, tmp_path: Path
) -> None:
    out, files = tmp_path / "out.tar", tmp_path / "files"
    files.mkdir()
    wanted = {"attest:sbom": f"generator={generator},WORD=x", **DEFAULT}
    outputs: list[Output] = ["oci", "local"]
    served = {"0": out, "1": files}
    made = build(clean, folder, RECIPE, "made", *outputs, files=served, **wanted)
    [[sbom, provenance]] = statements(out)
    assert (sbom["predicateType"], provenance["predicateType"]) == (SPDX, SLSA)
    assert sbom["predicate"] == {"name": "made", "word": "x"}
    assert sbom["subject"] == provenance["subject"]
    assert f"[linux/amd64] generating sbom using {generator}" in made.names
    assert b"scanning" in made.logs
    materials = provenance["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [one["uri"].partition("?")[0] for one in materials] == [
        "pkg:docker/busybox@latest", "pkg:docker/generator@latest",
    ]  # fmt: skip
    beside = json.loads((files / "sbom.spdx.json").read_text())
    assert beside["predicate"] == sbom["predicate"]
    assert "made" in [subject["name"] for subject in beside["subject"]]
    assert (files / "made").read_text() == "made\n"


@pytest.mark.parametrize(
    ("top", "own", "given", "scanned"),
    [
        ("", "", "", set()),
        ("ARG BUILDKIT_SBOM_SCAN_STAGE=true", "", "", {"sbom-one", "sbom-stage-2"}),
        ("ARG BUILDKIT_SBOM_SCAN_STAGE=one,three", "", "", {"sbom-one"}),
        ("ARG BUILDKIT_SBOM_SCAN_STAGE", "", "stage-2,unused", {"sbom-stage-2"}),
        ("", "ARG BUILDKIT_SBOM_SCAN_STAGE=true", "", {"sbom-one"}),
        ("ARG BUILDKIT_SBOM_SCAN_STAGE=1", "ARG BUILDKIT_SBOM_SCAN_STAGE=0", "", {"sbom-stage-2"}),
        ("ARG BUILDKIT_SBOM_SCAN_CONTEXT=three", "", "", {"sbom-context"}),
        ("ARG BUILDKIT_SBOM_SCAN_CONTEXT=one", "", "", set()),
    ],
)
def test_stages_and_contexts_are_scanned_if_arguments_say_so(
    clean: Daemon,
    folder: Path,
    generator: str,
    tmp_path: Path,
    top: str,
    own: str,
    given: str,
    scanned: set[str],
) -> None:
    (folder / "made").write_text("context\n")
    recipe = (
        f"{top}\nFROM busybox AS one\n{own}\nRUN echo one$BUILDKIT_SBOM_SCAN_STAGE >/made\n"
        "FROM busybox AS unused\nRUN exit 1\nFROM busybox\nRUN echo stage-2 >/made\n"
        "FROM busybox AS three\nCOPY --from=one /made /1\nCOPY --from=2 /made /2\n"
        "RUN echo three >/made"
    )
    wanted = {"attest:sbom": f"generator={generator}", "target": "three"}
    wanted |= {"build-arg:BUILDKIT_SBOM_SCAN_STAGE": given} if given else {}
    files = tmp_path / "files"
    files.mkdir()
    build(clean, folder, recipe, "made", "local", files={"0": files}, **wanted)
    names = {one.name.removesuffix(".spdx.json") for one in files.glob("*.spdx.json")}
    assert names == {"sbom", *scanned}
    for name in names:
        told = json.loads((files / f"{name}.spdx.json").read_text())["predicate"]["name"]
        assert told == ("three" if name == "sbom" else name.removeprefix("sbom-"))


def test_each_platform_has_its_own_attestations(
    clean: Daemon, folder: Path, generator: str, tmp_path: Path
) -> None:
    out, files = tmp_path / "out.tar", tmp_path / "files"
    files.mkdir()
    recipe = (
        "FROM --platform=$BUILDPLATFORM busybox AS tools\nARG TARGETARCH\n"
        "RUN echo $TARGETARCH >/made\nFROM scratch\nCOPY --from=tools /made /"
    )
    wanted = {"attest:sbom": f"generator={generator}", "platform": "linux/amd64,linux/arm64"}
    outputs: list[Output] = ["oci", ("local", {"attestation-prefix": "of-"})]
    served = {"0": out, "1": files}
    build(clean, folder, recipe, "made", *outputs, files=served, **wanted)
    told = [one["predicate"]["name"] for [one] in statements(out)]
    assert told == ["amd64", "arm64"]
    assert (files / "linux_arm64" / "of-sbom.spdx.json").exists()


def test_the_history_of_builds_has_the_provenance_of_each(clean: Daemon, folder: Path) -> None:
    """Clients write it into their --metadata-file."""
    build(clean, folder, "FROM scratch\nLABEL a=b", "made", "moby", platform="linux/arm64")

    async def ask() -> Any:
        async with buildkit.client(clean.socket) as client:
            request = control_pb2.BuildHistoryRequest(EarlyExit=True, Limit=1)
            [event] = await client.stream(
                "ListenBuildHistory", request, control_pb2.BuildHistoryEvent
            )
            [entry] = event.record.Result.Attestations
            asked = content_pb2.ReadContentRequest(digest=entry.digest, offset=1)
            read: Any = UnaryStreamMethod(
                client.channel, f"{CONTENT}Read", type(asked), content_pb2.ReadContentResponse
            )
            rest = b"".join([one.data for one in await read(asked)])
            with pytest.raises(GRPCError, match="content x: not found"):
                await client.call(
                    f"{CONTENT}Info", content_pb2.InfoRequest(digest="x"), content_pb2.InfoResponse
                )
            assert len(rest) == entry.size - 1
            assert entry.annotations["in-toto.io/predicate-type"].endswith("provenance/v0.2")
            return json.loads(b"{" + rest)

    told = asyncio.run(ask())
    assert told["invocation"]["parameters"]["frontend"] == "dockerfile.v0"


@pytest.mark.parametrize(
    ("wanted", "output", "sentence"),
    [
        ({"attest:provenance": "mode=some"}, "oci", 'invalid mode "some"'),
        ({"attest:provenance": "version=v9"}, "oci", "invalid provenance SLSA version: v9"),
        ({"attest:what": ""}, "oci", 'unknown attestation type "what"'),
        ({"attest:sbom": "generator="}, "oci", "sbom generator cannot be empty"),
        ({"attest:provenance": "complete-materials=1"}, "oci", "not all materials"),
        ({"attest:provenance": ""}, "docker", "does not currently support exporting manifest"),
        ({"attest:provenance": ""}, ("moby", {"oci-mediatypes": "0"}), "cannot export attestation"),
        ({"attest:sbom": "generator=generator,KIND=https://slsa.dev/provenance/v1"}, "oci",
         "a scanner may not state provenance"),
        ({"attest:sbom": "generator=generator,KIND=other"}, "oci", "does not match required"),
        ({"attest:sbom": "generator=busybox"}, "oci", "scanner busybox does not have cmd"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_an_error(
    clean: Daemon,
    folder: Path,
    generator: str,
    wanted: dict[str, str],
    output: Output,
    sentence: str,
) -> None:
    with pytest.raises(GRPCError, match=sentence):
        build(clean, folder, RECIPE, "made", output, **wanted)
    assert clean.request("GET", "/images/made/json").status == 404


def test_a_generator_that_fails_fails_the_build(
    clean: Daemon, folder: Path, generator: str
) -> None:
    recipe = "FROM busybox\nRUN echo x >/other"  # it looks for /made
    with pytest.raises(GRPCError, match="scanner generator ended with code 1"):
        build(clean, folder, recipe, "made", "moby", **{"attest:sbom": "generator=generator"})
