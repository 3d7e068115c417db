from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest

from sampan.build.attesting.materials import Materials
from sampan.build.attesting.provenance import Request, provenance
from sampan.build.attesting.wishes import ProvenanceWish
from sampan.build.built import Built, Recipe
from sampan.build.instructions.model import Mount
from sampan.build.state import State
from sampan.errors import InvalidArgument
from sampan.spec.platform import Platform

AMD = Platform("linux", "amd64")
DIGEST = "sha256:" + "a" * 64
COMMIT = "b" * 40


def said(wish: ProvenanceWish, materials: Materials, **attributes: str) -> Any:
    request = Request("r", attributes, 0, 10**9)
    built = Built(State.empty(AMD), materials=materials, recipe=Recipe(b"FROM x", "Dockerfile"))
    return provenance(wish, request, built)


def test_a_remote_context_whose_commit_is_known_is_complete_and_hermetic() -> None:
    url = "https://me:secret@example.org/x.git"
    materials = Materials(
        images={("docker.io/library/x:1", AMD): DIGEST, ("sha256:not a name", AMD): DIGEST},
        pages={"https://example.org/f": DIGEST},
        repositories={url: COMMIT},
    )
    wish = ProvenanceWish(complete=True)
    predicate = said(wish, materials, context=f"{url}#{COMMIT}", target="t").predicate
    definition = predicate["buildDefinition"]
    external = definition["externalParameters"]
    assert external["configSource"] == {
        "uri": f"https://xxxxx:xxxxx@example.org/x.git#{COMMIT}", "digest": {"sha1": COMMIT},
    }  # fmt: skip
    assert external["request"] == {"frontend": "dockerfile.v0", "args": {"target": "t"}}
    assert definition["resolvedDependencies"] == [
        {"uri": "pkg:docker/x@1?platform=linux%2Famd64", "digest": {"sha256": "a" * 64}},
        {"uri": "https://xxxxx:xxxxx@example.org/x.git", "digest": {"sha1": COMMIT}},
        {"uri": "https://example.org/f", "digest": {"sha256": "a" * 64}},
    ]
    metadata = predicate["runDetails"]["metadata"]
    assert metadata["buildkit_completeness"] == {"request": True, "resolvedDependencies": True}
    assert metadata["buildkit_hermetic"] is True
    assert (metadata["startedOn"], metadata["finishedOn"]) == (
        "1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z",
    )  # fmt: skip
    materials.network = True
    told = said(wish, materials, context=url).predicate["runDetails"]["metadata"]
    assert "buildkit_hermetic" not in told


@pytest.mark.parametrize("context", ["", "https://example.org/x.git"])
def test_what_has_no_digest_is_not_complete(context: str) -> None:
    materials = Materials(repositories={"https://example.org/x.git": ""})
    with pytest.raises(InvalidArgument, match="not all materials"):
        said(ProvenanceWish(complete=True), materials, context=context)


def test_what_the_client_lends_is_named_and_its_host_is_not() -> None:
    materials = Materials()
    materials.note_mounts([
        Mount(type="secret", id="key", required=True), Mount(type="secret", source="file"),
        Mount(type="secret", id="key"), Mount(type="ssh"), Mount(type="cache", id="c"),
    ])  # fmt: skip
    attributes = {"cgroup-parent": "x", "attest:sbom": "", "vcs:source": "https://a:b@x/y"}
    predicate = said(ProvenanceWish(), materials, **attributes).predicate
    request = predicate["buildDefinition"]["externalParameters"]["request"]
    assert request == {
        "frontend": "dockerfile.v0",
        "locals": [{"name": "context"}, {"name": "dockerfile"}],
        "secrets": [{"id": "file", "optional": True}, {"id": "key"}],
        "ssh": [{"id": "default", "optional": True}],
    }
    vcs = predicate["runDetails"]["metadata"]["buildkit_metadata"]["vcs"]
    assert vcs == {"source": "https://xxxxx:xxxxx@x/y"}


def test_the_small_one_has_no_arguments_and_no_file() -> None:
    attributes = {"build-arg:A": "1", "label:x": "y", "filename": "f"}
    made = said(ProvenanceWish(whole=False, version="v0.2", inline_only=True), Materials(),
                **attributes)  # fmt: skip
    assert made.inline_only
    assert made.kind == "https://slsa.dev/provenance/v0.2"
    assert made.predicate["invocation"] == {
        "configSource": {"entryPoint": "f"},
        "parameters": {
            "frontend": "dockerfile.v0", "locals": [{"name": "context"}, {"name": "dockerfile"}],
        },
        "environment": {"platform": str(Platform.host())},
    }  # fmt: skip
    assert made.predicate["metadata"]["completeness"]["parameters"] is False


def test_passwords_of_addresses_are_in_no_provenance() -> None:
    recipe = Recipe(b"FROM x\nADD https://me:secret@host/ /x", "Dockerfile")
    request = Request("r", {"build-arg:URL": "https://me:secret@host/"}, 0, 10**9)
    built = Built(State.empty(AMD), recipe=recipe)
    predicate = provenance(ProvenanceWish(whole=True), request, built).predicate
    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    told = definition["externalParameters"]["request"]["args"]
    assert told == {"build-arg:URL": "https://xxxxx:xxxxx@host/"}
    [info] = details["metadata"]["buildkit_metadata"]["source"]["infos"]
    assert b64decode(info["data"]) == b"FROM x\nADD https://xxxxx:xxxxx@host/ /x"
