"""What others write and delete beside us is noticed; what they are just writing is not believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.registry import paths
from sampan.registry.drivers.driver import ANYHOW, Driver
from sampan.registry.drivers.filesystem import FilesystemDriver
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.registry import DATABASE, OWN, Registry
from sampan.registry.upkeep import beside
from sampan.spec.digest import Digest
from sampan.spec.image import MEDIA_INDEX
from tests.memory_bucket import MemoryBucket
from tests.own_registry import Shop, index, manifest, serving, sha

LAYER = sha(b"layer")


class Other:
    """Writes as docker-registry does: files, and no rows of ours."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def blob(self, name: str, content: bytes) -> str:
        digest = Digest(sha(content))
        self.link(f"{paths.layer_folder(name, digest)}/link", digest)
        self._driver.write([(paths.blob(digest), content)])
        return digest

    def link(self, path: str, content: str) -> None:
        self._driver.write([(path, content.encode())])

    def image(self, name: str, tag: str, layer: bytes = b"layer", config: bytes = b"{}") -> str:
        for blob in (layer, config):
            self.blob(name, blob)
        return self.manifest(name, tag, manifest([sha(layer)], [layer], config))

    def manifest(self, name: str, tag: str, body: bytes) -> str:
        digest = Digest(sha(body))
        self._driver.write([(paths.blob(digest), body)])
        self.link(f"{paths.revision_folder(name, digest)}/link", digest)
        if tag:
            self.tag(name, tag, digest)
        return digest

    def tag(self, name: str, tag: str, digest: str) -> None:
        self.link(paths.tag_index(name, tag, Digest(digest)), digest)
        self.link(paths.tag_current(name, tag), digest)

    def delete(self, name: str, digest: str, *tags: str) -> None:
        for tag in tags:
            self._driver.delete([paths.tag(name, tag)], within=ANYHOW)
        # Only the file: on file systems the folder stays.
        link = f"{paths.revision_folder(name, Digest(digest))}/link"
        self._driver.delete([link], within=ANYHOW)


@pytest.fixture(params=["files", "objects"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Shop, Other]]:
    """Our registry, and somebody who writes beside it."""
    if request.param == "files":
        (tmp_path / OWN).mkdir()
        driver: Driver = FilesystemDriver(str(tmp_path))
    else:
        driver = ObjectDriver(MemoryBucket(chunk=1 << 20))
    with Registry(driver, tmp_path / OWN / DATABASE) as registry, serving(registry) as shop:
        yield shop, Other(driver)
    driver.close()


def test_a_tag_that_no_row_knows_is_found(pair: tuple[Shop, Other]) -> None:
    shop, other = pair
    digest = other.image("team/app", "1")
    answer = shop.get("/v2/team/app/manifests/1")
    assert answer.header("docker-content-digest") == digest == sha(answer.body)
    assert shop.get(f"/v2/team/app/blobs/{LAYER}").body == b"layer"
    assert shop.tags("team/app") == ["1"]
    assert shop.get("/v2/_catalog").json["repositories"] == ["team/app"]


def test_a_manifest_and_a_blob_are_found_by_their_digests(pair: tuple[Shop, Other]) -> None:
    shop, other = pair
    digest = other.image("team/app", "")
    assert shop.ask("HEAD", f"/v2/team/app/blobs/{LAYER}").status == 200
    assert shop.ask("HEAD", f"/v2/team/app/manifests/{digest}").status == 200
    assert shop.get(f"/v2/other/blobs/{LAYER}").status == 404  # it is no repository's of them
    assert shop.get(f"/v2/team/app/blobs/{sha(b'none')}").status == 404


def test_a_list_of_tags_is_found(pair: tuple[Shop, Other]) -> None:
    shop, other = pair
    other.image("team/app", "1")
    assert shop.tags("team/app") == ["1"]
    assert shop.get("/v2/team/none/tags/list").status == 404


def test_a_push_goes_on_here_whose_parts_came_there(pair: tuple[Shop, Other]) -> None:
    shop, other = pair
    for content in (b"layer", b"{}"):
        other.blob("team/app", content)
    body = manifest([LAYER], [b"layer"])
    assert shop.put("team/app", "1", body).status == 201
    child = other.image("team/app", "", b"other")
    both = index([(sha(body), len(body)), (child, 7)])
    assert shop.put("team/app", "all", both, MEDIA_INDEX).status == 201
    place = f"/v2/mine/app/blobs/uploads/?mount={other.blob('theirs', b'base')}&from=theirs"
    assert shop.ask("POST", place).status == 201


def test_what_is_just_being_written_is_not_believed(pair: tuple[Shop, Other]) -> None:
    shop, other = pair
    digest = shop.push("team/app", "1")
    body = manifest([LAYER], [b"layer"], annotations={"a": "b"})
    new = other.manifest("team/app", "", body)
    other._driver.write([(paths.blob(Digest(new)), body[:20])])
    other.tag("team/app", "2", new)
    assert shop.get("/v2/team/app/manifests/2").status == 404
    assert shop.get(f"/v2/team/app/manifests/{new}").status == 404
    for torn in ("", "sha256:12", digest[:-1]):
        other.link(paths.tag_current("team/app", "1"), torn)
        shop.registry.beside.look(every_tag=True)
        assert shop.get("/v2/team/app/manifests/1").header("docker-content-digest") == digest
    assert shop.tags("team/app") == ["1"]
    other._driver.write([(paths.blob(Digest(new)), body)])
    shop.registry.beside.look()
    assert shop.get("/v2/team/app/manifests/2").body == body


def test_a_look_finds_what_moved_and_what_is_gone(pair: tuple[Shop, Other]) -> None:
    shop, other = pair
    first = shop.push("team/app", "1")
    second = shop.push("team/app", "2", [b"second"])
    third = other.image("team/app", "1", b"third")
    assert shop.get("/v2/team/app/manifests/1").header("docker-content-digest") == first
    assert shop.registry.beside.look() == 1
    assert shop.get("/v2/team/app/manifests/1").header("docker-content-digest") == third
    other.delete("team/app", second, "2")
    assert shop.registry.beside.look() == 1
    assert shop.get("/v2/team/app/manifests/2").status == 404
    assert shop.get(f"/v2/team/app/manifests/{second}").status == 404
    assert shop.tags("team/app") == ["1"]
    assert shop.registry.beside.look() == 0
    other.tag("team/app", "1", first)  # which is no new manifest
    assert shop.registry.beside.look() == 0
    assert shop.registry.beside.look(every_tag=True) == 1
    assert shop.get("/v2/team/app/manifests/1").header("docker-content-digest") == first


def test_a_collection_looks_before_it_takes_anything(pair: tuple[Shop, Other]) -> None:
    shop, other = pair
    shop.push_blob("team/app", b"layer")  # nobody needs it, as far as we know
    untagged = shop.push("team/app", "", [b"untagged"])
    other.image("team/app", "theirs")
    other.tag("team/app", "moved", untagged)
    shop.registry.collector.collect(-1, untagged=True)
    assert shop.get(f"/v2/team/app/blobs/{LAYER}").body == b"layer"
    assert shop.get("/v2/team/app/manifests/moved").header("docker-content-digest") == untagged
    assert shop.get("/v2/team/app/manifests/theirs").status == 200


def test_what_others_collected_is_not_promised(pair: tuple[Shop, Other]) -> None:
    shop, other = pair
    shop.push("team/app", "1")
    other._driver.delete([paths.blob_folder(Digest(LAYER))], within=ANYHOW)
    assert shop.ask("HEAD", f"/v2/team/app/blobs/{LAYER}").status == 404
    body = manifest([LAYER], [b"layer"])
    assert shop.put("team/app", "2", body).code == "MANIFEST_BLOB_UNKNOWN"
    place = f"/v2/other/blobs/uploads/?mount={LAYER}&from=team/app"
    assert shop.ask("POST", place).status == 202
    shop.push_blob("team/app", b"layer")
    assert shop.put("team/app", "2", body).status == 201


def test_a_repository_that_is_gone_is_empty(pair: tuple[Shop, Other]) -> None:
    shop, other = pair
    shop.push("team/app", "1")
    other._driver.delete([paths.repository("team/app")], within=ANYHOW)
    assert shop.registry.beside.look() == 1
    assert shop.tags("team/app") == []
    assert shop.ask("HEAD", f"/v2/team/app/blobs/{LAYER}").status == 404


def test_a_list_that_lags_behind_takes_nothing(tmp_path: Path) -> None:
    bucket = MemoryBucket(chunk=1 << 20)
    driver = ObjectDriver(bucket)
    with Registry(driver, tmp_path / DATABASE) as registry, serving(registry) as shop:
        shop.push("team/app", "1")
        bucket.unlisted = set(bucket.objects)
        assert registry.beside.look(every_tag=True) == 0
        assert shop.get("/v2/team/app/manifests/1").status == 200
    driver.close()


def test_what_is_of_no_use_is_not_repeated_for_everybody(
    pair: tuple[Shop, Other], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, other = pair
    monkeypatch.setattr(beside, "QUIET_SECONDS", 1e9)
    other.link(paths.tag_current("team/app", "1"), "sha256:torn")
    for _ in range(3):
        assert shop.get("/v2/team/app/manifests/1").status == 404
    assert list(shop.registry.beside._quiet) == ["team/app"]


def test_what_a_failed_push_of_ours_left_is_nobodys(
    pair: tuple[Shop, Other], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, _ = pair
    shop.push("team/app", "1")
    body = manifest([LAYER], [b"layer"], annotations={"a": "b"})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("sampan.registry.content.manifests.record_manifest", fail)
        broken.setattr("sampan.registry.content.blobs.PUT_BLOB", "no sql")
        assert shop.put("team/app", "2", body).status == 507
        place = shop.begin("team/app")
        assert shop.ask("PUT", f"{place}?digest={sha(b'new')}", b"new").status >= 500
    for look in (False, True):
        if look:
            shop.registry.beside.look(every_tag=True)
        assert shop.get("/v2/team/app/manifests/2").status == 404
        assert shop.get(f"/v2/team/app/manifests/{sha(body)}").status == 404
        assert shop.get(f"/v2/team/app/blobs/{sha(b'new')}").status == 404
        assert shop.tags("team/app") == ["1"]
    assert shop.put("team/app", "2", body).status == 201
    shop.push_blob("team/app", b"new")
    assert shop.get("/v2/team/app/manifests/2").body == body
    assert not shop.registry.beside._disowned


def test_a_look_leaves_what_is_the_same(pair: tuple[Shop, Other]) -> None:
    shop, _ = pair
    shop.push("team/app", "1")
    shop.push("other", "", [b"x"])
    shop.push_blob("third", b"nobody needs it")
    before = [shop.registry.metadata.rows(f"SELECT * FROM {t}") for t in ("tags", "links", "blobs")]
    assert shop.registry.beside.look(every_tag=True) == 0
    after = [shop.registry.metadata.rows(f"SELECT * FROM {t}") for t in ("tags", "links", "blobs")]
    assert before == after


def test_what_a_registry_took_that_has_ended_outlasts_a_collection(tmp_path: Path) -> None:
    bucket = MemoryBucket(chunk=1 << 20)

    def opened(name: str) -> Registry:
        (tmp_path / name).mkdir()
        return Registry.on_objects(ObjectDriver(bucket), tmp_path / name)

    with opened("one") as one, serving(one) as shop:
        shop.push_blob("team/app", b"layer")
        shop.push_blob("team/app", b"{}")
        with opened("two") as two, serving(two) as other:
            body = manifest([LAYER], [b"layer"])
            assert other.put("team/app", "1", body).status == 201
            with pytest.raises(OSError, match="another registry works"):
                one.collector.collect(-1)
        one.collector.collect(-1, untagged=True)
        assert shop.get("/v2/team/app/manifests/1").body == body
        assert shop.get(f"/v2/team/app/blobs/{LAYER}").body == b"layer"
