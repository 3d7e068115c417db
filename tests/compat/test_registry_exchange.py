"""Our registry and Docker's in turn on one data directory: nothing is lost or converted."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sampan.registry import paths
from sampan.spec.digest import Digest
from sampan.spec.image import MEDIA_INDEX, MEDIA_MANIFEST
from tests.registries import DOCKERS, OURS, THIRD, Registry, registry
from tests.remote_images import (
    ACCEPT,
    FOREIGN,
    Blob,
    Image,
    Layer,
    busybox,
    demand_whole,
    digest,
    image,
    index,
    layer,
    push,
    small_layer,
)
from tests.session import PATIENCE

pytestmark = [pytest.mark.compat, pytest.mark.privileged, pytest.mark.slow]
Program = tuple[str, ...]
REVISIONS = 5


def called_by(algorithm: str, name: str) -> Image:
    """Make an image whose layer is called by another digest than usual."""
    plain = small_layer(name, oci=True)
    told = Layer(plain.media_type, plain.content, algorithm=algorithm, diff_id=plain.diff_id)
    return image(told, oci=True)


def fill(hub: Registry, prefix: str) -> dict[str, str]:
    """Push images of all kinds, and one tag many times; return the digest of each tag."""
    foreign = layer(b"foreign", media_type=FOREIGN, extra={"urls": ["https://example.com/x"]})
    shipped: dict[str, Any] = {
        "docker": busybox(small_layer(prefix)),
        "oci": image(small_layer(prefix, oci=True), oci=True),
        "list": index(busybox(architecture="amd64"), busybox(architecture="arm64")),
        "foreign": image(small_layer("base"), foreign),
        "sha384": called_by("sha384", prefix),
        "sha512": called_by("sha512", prefix),
    }
    for tag, item in shipped.items():
        push(hub, f"{prefix}/app", tag, item)
    found = {tag: item.digest for tag, item in shipped.items()}
    for number in range(REVISIONS):
        found["moving"] = push(hub, f"{prefix}/app", "moving", busybox(small_layer(f"{number}")))
    return found


def check(hub: Registry, prefix: str, filled: dict[str, str]) -> None:
    """Every tag leads to its manifest, and everything that this needs is whole."""
    assert hub.tags(f"{prefix}/app") == sorted(filled)
    for tag, wanted in filled.items():
        demand_whole(hub, f"{prefix}/app", tag, wanted)


def collect(hub: Registry, *flags: str) -> str:
    """Stop a registry and have its program collect garbage; return what it tells."""
    hub.stop()
    command = [*hub.program, "garbage-collect", *flags, str(hub.folder / "config.yml")]
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def begin(hub: Registry, name: str, piece: bytes) -> str:
    """Begin an upload with a piece; return its path."""
    place = hub.ask("POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
    answer = hub.ask("PATCH", place.partition(hub.address)[2], piece)
    assert answer.status == 202
    return str(answer.headers["Location"].partition(hub.address)[2])


def put(hub: Registry, place: str, content: bytes, piece: bytes) -> int:
    """Send the last piece of an upload; return the status."""
    mark = "&" if "?" in place else "?"
    return hub.ask("PUT", f"{place}{mark}digest={digest(content)}", piece).status


@pytest.mark.parametrize("program", DOCKERS)
def test_a_data_directory_moves_to_ours_and_back(
    namespace: str, tmp_path: Path, program: Program
) -> None:
    storage = tmp_path / "storage"
    content = b"half of it"
    with registry(namespace, storage=storage, program=program) as theirs:
        first = fill(theirs, "theirs")
        theirs.ask("DELETE", f"/v2/theirs/app/manifests/{first.pop('oci')}")
        half = begin(theirs, "theirs/app", content[:5])
    assert [*storage.glob("**/_uploads/*/hashstates/sha256/5")]
    with registry(namespace, storage=storage, program=OURS) as ours:
        check(ours, "theirs", first)
        assert put(ours, half, content, content[5:]) == 201
        second = fill(ours, "ours")
        ours.ask("DELETE", f"/v2/ours/app/manifests/{second.pop('docker')}")
        ours.ask("PUT", "/v2/theirs/app/manifests/new", *_manifest(ours, "theirs/app", "docker"))
        first["new"] = first["docker"]
        first["moving"] = push(ours, "theirs/app", "moving", busybox(small_layer("ours")))
    with registry(namespace, storage=storage, program=program) as theirs:
        check(theirs, "theirs", first)
        check(theirs, "ours", second)
        assert theirs.ask("GET", "/v2/_catalog").json["repositories"] == ["ours/app", "theirs/app"]
        assert theirs.ask("GET", f"/v2/theirs/app/blobs/{digest(content)}").body == content
        # 2.x would take the manifests that an index names, because they have no tags.
        collect(theirs, *(["--delete-untagged"] if program == THIRD else []))
        theirs.start()
        check(theirs, "theirs", first)
        check(theirs, "ours", second)
        assert theirs.ask("GET", f"/v2/theirs/app/blobs/{digest(content)}").status == 404
        third = fill(theirs, "again")
        first["moving"] = push(theirs, "theirs/app", "moving", busybox(small_layer("theirs")))
    with registry(namespace, storage=storage, program=OURS) as ours:
        for prefix, filled in (("theirs", first), ("ours", second), ("again", third)):
            check(ours, prefix, filled)
        told = collect(ours, "--delete-untagged")
        assert told.count("manifest eligible for deletion: again/app@") == REVISIONS - 1
        ours.start()
        for prefix, filled in (("theirs", first), ("ours", second), ("again", third)):
            check(ours, prefix, filled)
    with registry(namespace, storage=storage, program=program) as theirs:
        for prefix, filled in (("theirs", first), ("ours", second), ("again", third)):
            check(theirs, prefix, filled)


def _manifest(hub: Registry, name: str, tag: str) -> tuple[bytes, dict[str, str]]:
    reply = hub.ask("GET", f"/v2/{name}/manifests/{tag}", headers=ACCEPT)
    return reply.body, {"Content-Type": reply.headers["Content-Type"]}


@pytest.mark.parametrize("program", DOCKERS)
def test_an_upload_that_ours_began_goes_on(
    namespace: str, tmp_path: Path, program: Program
) -> None:
    """docker-registry 3 tells where it stands; 2.x trusts only addresses that it has signed."""
    storage = tmp_path / "storage"
    content = os.urandom(300_000)
    with registry(namespace, storage=storage, program=OURS) as ours:
        place = begin(ours, "team/app", content[:100_000])
    with registry(namespace, storage=storage, program=program) as theirs:
        answer = theirs.ask("GET", place)
        if program != THIRD:
            assert answer.json["errors"][0]["code"] == "BLOB_UPLOAD_INVALID"
            return
        assert (answer.status, answer.headers["Range"]) == (204, "0-99999")
        again = answer.headers["Location"].partition(theirs.address)[2]
        answer = theirs.ask("PATCH", again, content[100_000:200_000])
        assert (answer.status, answer.headers["Range"]) == (202, "0-199999")
    with registry(namespace, storage=storage, program=OURS) as ours:
        assert ours.ask("GET", place).headers["Range"] == "0-199999"
        assert put(ours, place, content, content[200_000:]) == 201
    with registry(namespace, storage=storage, program=program) as theirs:
        assert theirs.ask("GET", f"/v2/team/app/blobs/{digest(content)}").body == content


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
@pytest.mark.parametrize("program", DOCKERS)
def test_a_blob_that_was_pushed_by_a_longer_digest_is_the_same_in_both(
    namespace: str, tmp_path: Path, program: Program, algorithm: str
) -> None:
    """docker-registry stores it by its sha256, ours by what it was called."""
    storage = tmp_path / "storage"
    shipped = called_by(algorithm, "x")
    (told,) = shipped.layers
    with registry(namespace, storage=storage, program=program) as theirs:
        push(theirs, "team/app", "1", shipped)
    stored = Blob(told.media_type, told.content)
    assert (storage / paths.blob(Digest(stored.digest))).exists()
    assert not (storage / paths.blob(Digest(told.digest))).exists()
    with registry(namespace, storage=storage, program=OURS) as ours:
        collect(ours)
        ours.start()
        demand_whole(ours, "team/app", "1", shipped.digest)
    with registry(namespace, storage=storage, program=program) as theirs:
        demand_whole(theirs, "team/app", "1", shipped.digest)
        collect(theirs)
        theirs.start()
        demand_whole(theirs, "team/app", "1", shipped.digest)


@pytest.mark.parametrize("program", DOCKERS)
def test_what_clients_listed_in_a_tag_is_listed_as_referrers(
    namespace: str, tmp_path: Path, program: Program
) -> None:
    """Clients of a registry without referrers keep a list of them in a tag."""
    storage, name = tmp_path / "storage", "/v2/team/app/manifests"
    shipped = image(small_layer("x", oci=True), oci=True)
    with registry(namespace, storage=storage, program=program) as theirs:
        push(theirs, "team/app", "1", shipped)
        document = json.loads(shipped.manifest.content)
        subject = {"mediaType": MEDIA_MANIFEST, "digest": shipped.digest, "size": 7}
        signature = json.dumps(
            {**document, "artifactType": "application/x", "subject": subject}
        ).encode()
        told = theirs.ask(
            "PUT", f"{name}/{digest(signature)}", signature, {"Content-Type": MEDIA_MANIFEST}
        )
        assert (told.status, told.headers["OCI-Subject"]) == (201, None)
        item = {"mediaType": MEDIA_MANIFEST, "digest": digest(signature), "size": len(signature)}
        listed = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": [item]}
        tag = shipped.digest.replace(":", "-")
        put_list = (json.dumps(listed).encode(), {"Content-Type": MEDIA_INDEX})
        assert theirs.ask("PUT", f"{name}/{tag}", *put_list).status == 201
    with registry(namespace, storage=storage, program=OURS) as ours:
        found = ours.ask("GET", f"/v2/team/app/referrers/{shipped.digest}").json["manifests"]
        assert [(one["digest"], one["artifactType"]) for one in found] == [
            (digest(signature), "application/x")
        ]
        demand_whole(ours, "team/app", "1", shipped.digest)
