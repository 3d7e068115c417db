"""The files are the truth: what others wrote, moved or removed is what the registry has."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sampan.errors import Conflict
from sampan.registry import paths
from sampan.registry.drivers.filesystem import FileWriter
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.registry import DATABASE, OWN, Registry
from sampan.spec.digest import Digest
from tests.memory_bucket import MemoryBucket
from tests.own_registry import Shop, index, manifest, serving, sha

NONE = sha(b"nothing")
BLOB = Digest(sha(b"layer"))


@contextmanager
def opened(root: Path) -> Iterator[Shop]:
    with Registry.on_filesystem(str(root)) as registry, serving(registry) as shop:
        yield shop


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry with two tags of an image, an index and a referrer, which is closed."""
    with opened(tmp_path) as shop:
        digest = shop.push("team/app", "1", [b"layer"])
        shop.push("team/app", "2", [b"layer"])
        size = len(shop.get("/v2/team/app/manifests/1").body)
        body = index([(digest, size)])
        assert shop.put("team/app", "all", body, "application/vnd.oci.image.index.v1+json")
        subject = {"mediaType": "x/y", "digest": digest, "size": size}
        shop.push("team/app", "sig", [b"signature"], subject=subject)
    return tmp_path


def _everything(shop: Shop) -> dict[str, object]:
    digest = shop.get("/v2/team/app/manifests/1").header("docker-content-digest")
    return {
        "catalog": shop.get("/v2/_catalog").json,
        "tags": shop.tags("team/app"),
        "layer": shop.get(f"/v2/team/app/blobs/{BLOB}").body,
        "referrers": shop.get(f"/v2/team/app/referrers/{digest}").json,
        "image": shop.get("/v2/team/app/manifests/1").body,
    }


@pytest.mark.parametrize(
    "links",
    [
        {"one": ".", "two": ".", "team/three": ".."},
        {"one/to": "../two", "one/too": "../two", "two/to": "../one", "two/too": "../one"},
        {"one": "/", "two": "/", "three": "two", "itself": "itself"},
    ],
)
def test_links_in_circles_are_passed_over_and_others_lead_to_other_disks(
    root: Path, tmp_path_factory: pytest.TempPathFactory, links: dict[str, str]
) -> None:
    with opened(root) as shop:
        before = _everything(shop)
    repositories, disk = root / paths.REPOSITORIES, tmp_path_factory.mktemp("disk")
    shutil.move(repositories / "team", disk / "team")
    (repositories / "team").symlink_to(disk / "team")
    for name, target in links.items():
        (repositories / name).parent.mkdir(exist_ok=True)
        (repositories / name).symlink_to(target)
    (root / OWN / DATABASE).unlink()
    with opened(root) as shop:
        assert _everything(shop)["image"] == before["image"]
        assert shop.tags("team/app") == ["1", "2", "all", "sig"]
        shop.push("team/app", "3", [b"layer"])
        shop.registry.collector.collect(-1)
        assert shop.registry.purge_uploads(0) == []
    assert (disk / "team/app/_manifests/tags/3").is_dir()


def test_all_is_there_after_a_restart(root: Path) -> None:
    with opened(root) as shop:
        first = _everything(shop)
    with opened(root) as shop:
        assert _everything(shop) == first
        assert shop.tags("team/app") == ["1", "2", "all", "sig"]


def test_all_is_there_without_the_database(root: Path) -> None:
    with opened(root) as shop:
        first = _everything(shop)
    shutil.rmtree(root / OWN)
    with opened(root) as shop:
        assert _everything(shop) == first


def test_a_database_of_another_version_is_made_anew(root: Path) -> None:
    import sqlite3

    with opened(root) as shop:
        first = _everything(shop)
    with sqlite3.connect(root / OWN / DATABASE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with opened(root) as shop:
        assert _everything(shop) == first


def test_a_tag_that_somebody_else_moved_is_moved(root: Path) -> None:
    with opened(root) as shop:
        signature = shop.get("/v2/team/app/manifests/sig").header("docker-content-digest")
    (root / paths.tag_current("team/app", "1")).write_text(signature)
    with opened(root) as shop:
        found = shop.get("/v2/team/app/manifests/1").header("docker-content-digest")
        assert found == signature


def test_what_somebody_else_removed_is_gone(root: Path) -> None:
    with opened(root) as shop:
        digest = Digest(shop.get("/v2/team/app/manifests/1").header("docker-content-digest"))
    shutil.rmtree(root / paths.revision_folder("team/app", digest))
    shutil.rmtree(root / paths.blob_folder(BLOB))
    with opened(root) as shop:
        assert shop.tags("team/app") == ["all", "sig"]
        assert shop.get(f"/v2/team/app/manifests/{digest}").status == 404
        assert shop.get(f"/v2/team/app/blobs/{BLOB}").status == 404


def test_a_torn_link_of_a_layer_or_manifest_does_no_harm(root: Path) -> None:
    for path in (root / paths.REPOSITORIES).rglob("link"):
        if "tags" not in path.parts:
            path.write_bytes(b"")  # as docker-registry 2.8 leaves them when it is killed
    with opened(root) as shop:
        assert shop.tags("team/app") == ["1", "2", "all", "sig"]
        assert shop.get(f"/v2/team/app/blobs/{BLOB}").body == b"layer"


def test_a_torn_tag_is_left_out_with_a_warning(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / paths.tag_current("team/app", "2")).write_bytes(b"")
    with opened(root) as shop:
        assert shop.tags("team/app") == ["1", "all", "sig"]
    assert "tag 2 of team/app is left out" in caplog.text


def test_a_manifest_that_cannot_be_read_keeps_what_its_repository_has(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(root) as shop:
        digest = Digest(shop.get("/v2/team/app/manifests/1").header("docker-content-digest"))
    (root / paths.blob(digest)).write_bytes(b"torn")
    with opened(root) as shop:
        assert f"manifest {digest} of team/app cannot be read" in caplog.text
        assert shop.get("/v2/team/app/manifests/1").status == 404
        shop.registry.collector.collect(-1, untagged=True)
        assert shop.get(f"/v2/team/app/blobs/{BLOB}").body == b"layer"


def test_a_manifest_of_schema_1_is_served_and_keeps_its_layers(root: Path) -> None:
    body = b'{"schemaVersion": 1, "fsLayers": [{"blobSum": "%s"}]}' % BLOB.encode()
    digest = Digest(sha(body))
    files = {
        paths.blob(digest): body,
        f"{paths.revision_folder('old', digest)}/link": digest.encode(),
        paths.tag_current("old", "1"): digest.encode(),
    }
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(content)
    shutil.rmtree(root / paths.repository("team/app"))
    with opened(root) as shop:
        answer = shop.get("/v2/old/manifests/1")
        assert (answer.status, answer.body) == (200, body)
        assert answer.header("content-type").endswith("manifest.v1+prettyjws")
        shop.registry.collector.collect(-1, untagged=True)
    assert (root / paths.blob(BLOB)).read_bytes() == b"layer"


def _left_by_docker_registry(root: Path, content: bytes, *names: str) -> Digest:
    """Store a blob that was pushed by its sha512 as docker-registry does: by its sha256."""
    pushed, stored = Digest(sha(content, "sha512")), Digest(sha(content))
    (root / paths.blob(stored)).parent.mkdir(parents=True)
    (root / paths.blob(stored)).write_bytes(content)
    for name in names:
        for digest in (pushed, stored):
            link = root / paths.layer_folder(name, digest) / "link"
            link.parent.mkdir(parents=True)
            link.write_text(stored)
    return pushed


def test_a_blob_that_is_stored_by_another_digest_is_found_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytes(range(256)) * 5000
    pushed = _left_by_docker_registry(tmp_path, content, "one", "two/deep")
    with caplog.at_level("INFO"), opened(tmp_path) as shop:
        for name in ("one", "two/deep"):
            assert shop.get(f"/v2/{name}/blobs/{pushed}").body == content
        shop.push_blob("one", b"{}")
        document = json.loads(manifest([sha(content)], [content]))
        document["layers"][0]["digest"] = pushed
        assert shop.put("one", "1", json.dumps(document).encode()).status == 201
        shop.registry.collector.collect(-1)
        assert shop.get(f"/v2/one/blobs/{pushed}").body == content
        assert shop.get(f"/v2/one/blobs/{sha(content)}").status == 404
    assert caplog.text.count("is copied") == 1
    # And docker-registry, which follows the link, finds it where it leads now.
    for name in ("one", "two/deep"):
        assert (tmp_path / paths.layer_folder(name, pushed) / "link").read_text() == pushed
    assert (tmp_path / paths.blob(pushed)).read_bytes() == content
    assert not [*tmp_path.glob("sampan/copies/*")]
    caplog.clear()
    with caplog.at_level("INFO"), opened(tmp_path) as shop:
        assert shop.get(f"/v2/one/blobs/{pushed}").body == content
    assert "is copied" not in caplog.text


def test_what_is_something_else_is_not_found_by_another_digest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pushed = _left_by_docker_registry(tmp_path, b"content", "one")
    (tmp_path / paths.blob(Digest(sha(b"content")))).write_bytes(b"damaged")
    gone = _left_by_docker_registry(tmp_path, b"gone", "one")
    shutil.rmtree((tmp_path / paths.blob(Digest(sha(b"gone")))).parent)
    with opened(tmp_path) as shop:
        for digest in (pushed, gone):
            assert shop.get(f"/v2/one/blobs/{digest}").status == 404
    assert f"blob {pushed} is left out" in caplog.text
    assert not [*tmp_path.glob("sampan/copies/*")]


def test_a_copy_that_cannot_be_made_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else the next collection would take the only copy that there is.
    pushed = _left_by_docker_registry(tmp_path, b"content", "one")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FileWriter, "write", full)
        with pytest.raises(OSError, match="No space left"), opened(tmp_path):
            raise AssertionError("never reached")
    with opened(tmp_path) as shop:
        assert shop.get(f"/v2/one/blobs/{pushed}").body == b"content"


def test_so_is_one_in_a_bucket(tmp_path: Path) -> None:
    bucket = MemoryBucket(chunk=64)
    content = bytes(range(256))
    pushed = _left_by_docker_registry(tmp_path / "files", content, "one")
    for path in (tmp_path / "files").rglob("*"):
        if path.is_file():
            bucket.objects[str(path.relative_to(tmp_path / "files"))] = path.read_bytes()
    with (
        Registry.on_objects(ObjectDriver(bucket), tmp_path / "state") as registry,
        serving(registry) as shop,
    ):
        assert shop.get(f"/v2/one/blobs/{pushed}").body == content
    assert bucket.objects[paths.blob(pushed)] == content
    assert not [key for key in bucket.objects if "copies" in key]


def test_a_cut_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    data = bytes(range(256)) * 100
    with opened(tmp_path) as shop:
        place = shop.begin("team/app")
        shop.ask("PATCH", place, [data[:5000]], hang_up=True)
    with opened(tmp_path) as shop:
        assert shop.get(place).header("range") == "0-4999"
        assert shop.ask("PUT", f"{place}?digest={sha(data)}", data[5000:]).status == 201
        assert shop.get(f"/v2/team/app/blobs/{sha(data)}").body == data
    assert not list((tmp_path / paths.uploads("team/app")).iterdir())


def test_one_process_at_a_time_has_a_registry(tmp_path: Path) -> None:
    with (
        opened(tmp_path),
        pytest.raises(Conflict, match="another process"),
        opened(tmp_path),
    ):
        raise AssertionError("never reached")


def test_odd_files_are_passed_over(root: Path) -> None:
    for name in ("README", "blobs/sha256/xx/notes/data", "repositories/_odd/x"):
        path = root / paths.ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (root / paths.layer_folder("team/app", Digest("sha256:odd"))).mkdir()
    with opened(root) as shop:
        assert shop.tags("team/app") == ["1", "2", "all", "sig"]


def test_what_only_somebody_else_can_have_put_there_stops_no_start(root: Path) -> None:
    repositories = root / paths.REPOSITORIES
    with opened(root) as shop:
        first = _everything(shop)
    (repositories / "loop").symlink_to("loop")
    os.mkdir(os.fsencode(repositories) + b"/\xff\xfe")
    deep = repositories
    for _ in range(12):
        deep = deep / ("d" * 60)
        deep.mkdir()
    for name, make in (("pipe", os.mkfifo), ("folder", os.mkdir)):
        tag = repositories / f"team/app/_manifests/tags/{name}/current"
        tag.mkdir(parents=True)
        make(tag / "link")
    with opened(root) as shop:
        assert _everything(shop) == first
