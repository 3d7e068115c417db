from __future__ import annotations

import json

import pytest

from sampan.registry import lists, paths
from sampan.registry.content.documents import PlatformRules, UrlRules, Validation
from sampan.registry.database.metadata import Row
from sampan.registry.drivers.driver import ANYHOW
from sampan.registry.expressions import expression
from sampan.registry.registry import Registry
from sampan.spec.digest import Digest
from sampan.spec.image import (
    DOCUMENT_LIMIT,
    MEDIA_DOCKER_INDEX,
    MEDIA_DOCKER_MANIFEST,
    MEDIA_INDEX,
    MEDIA_MANIFEST,
)
from tests.own_registry import Shop, index, manifest, serving, sha

NONE = sha(b"nothing")


def test_a_manifest_comes_back_as_it_was_pushed(shop: Shop) -> None:
    digest = shop.push("team/app", "1.0")
    for reference in ("1.0", digest):
        answer = shop.get(f"/v2/team/app/manifests/{reference}")
        assert (answer.status, sha(answer.body)) == (200, digest)
        assert answer.header("docker-content-digest") == digest
        assert answer.header("content-type") == MEDIA_MANIFEST
        head = shop.ask("HEAD", f"/v2/team/app/manifests/{reference}")
        assert (head.status, head.body) == (200, b"")
        assert head.header("content-length") == str(len(answer.body))
        assert head.header("docker-content-digest") == digest


def test_a_put_tells_the_digest_and_the_place(shop: Shop) -> None:
    layer = shop.push_blob("team/app", b"layer")
    shop.push_blob("team/app", b"{}")
    body = manifest([layer], [b"layer"])
    answer = shop.put("team/app", "1", body)
    assert answer.status == 201
    assert answer.header("docker-content-digest") == sha(body)
    assert answer.header("location") == f"http://registry.test/v2/team/app/manifests/{sha(body)}"


def test_a_manifest_is_pushed_by_its_digest_of_any_algorithm(shop: Shop) -> None:
    layer = shop.push_blob("team/app", b"layer", "sha512")
    shop.push_blob("team/app", b"{}")
    body = manifest([layer], [b"layer"])
    for algorithm in ("sha256", "sha384", "sha512"):
        digest = sha(body, algorithm)
        assert shop.put("team/app", digest, body).status == 201
        answer = shop.get(f"/v2/team/app/manifests/{digest}")
        assert (answer.body, answer.header("docker-content-digest")) == (body, digest)
    assert shop.tags("team/app") == []


def test_a_manifest_of_another_digest_is_refused(shop: Shop) -> None:
    shop.push("team/app", "1")
    answer = shop.put("team/app", NONE, shop.get("/v2/team/app/manifests/1").body)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_a_digest_takes_many_tags_at_once(shop: Shop) -> None:
    shop.push("team/app", "1")
    body = shop.get("/v2/team/app/manifests/1").body
    tags = [f"v{n}" for n in range(12)]
    reference = f"{sha(body)}?" + "&".join(f"tag={tag}" for tag in tags)
    answer = shop.put("team/app", reference, body)
    assert answer.status == 201
    assert [value for key, value in answer.headers if key == "oci-tag"] == tags
    assert shop.tags("team/app") == sorted(["1", *tags])


def test_there_is_an_end_to_the_tags_of_one_request(shop: Shop) -> None:
    digest = shop.push("team/app", "1")
    body = shop.get("/v2/team/app/manifests/1").body
    for count, status in ((100, 201), (101, 414)):
        query = "&".join(f"tag=t{number}" for number in range(count))
        assert shop.put("team/app", f"{digest}?{query}", body).status == status
    assert len(shop.tags("team/app")) == 101


def test_of_what_no_repository_has_the_storage_is_not_asked(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(shop.registry.driver, "sizes", asked.extend)
    body = manifest([NONE, sha(b"other")], [b"nothing", b"other"])
    assert shop.put("team/app", "1", body).code == "MANIFEST_BLOB_UNKNOWN"
    assert asked == []


def test_a_tag_moves(shop: Shop) -> None:
    old = shop.push("team/app", "1")
    new = shop.push("team/app", "1", [b"another"])
    assert shop.get("/v2/team/app/manifests/1").header("docker-content-digest") == new
    assert shop.get(f"/v2/team/app/manifests/{old}").status == 200


@pytest.mark.parametrize("reference", ["1.0", NONE])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_an_unknown_manifest_is_told(shop: Shop, method: str, reference: str) -> None:
    shop.push("team/app", "2.0")
    answer = shop.ask(method, f"/v2/team/app/manifests/{reference}")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")


def test_a_manifest_needs_its_blobs_and_all_that_are_missing_are_named(shop: Shop) -> None:
    shop.push_blob("team/app", b"{}")
    body = manifest([sha(b"a"), sha(b"b")], [b"a", b"b"])
    answer = shop.put("team/app", "1", body)
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    named = {error["detail"] for error in answer.json["errors"]}
    assert named == {sha(b"a"), sha(b"b")}
    assert shop.get("/v2/team/app/manifests/1").status == 404


def test_a_manifest_needs_the_files_of_its_blobs(shop: Shop) -> None:
    layer = shop.push_blob("team/app", b"layer")
    shop.push_blob("team/app", b"{}")
    shop.registry.driver.delete([paths.blob_folder(Digest(layer))], within=ANYHOW)  # the row stays
    body = manifest([layer], [b"layer"])
    answer = shop.put("team/app", "1", body)
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    shop.push_blob("team/app", b"layer")
    assert shop.put("team/app", "1", body).status == 201


def test_an_index_needs_its_manifests(shop: Shop) -> None:
    child = shop.push("team/app", "1")
    size = len(shop.get("/v2/team/app/manifests/1").body)
    assert shop.put("team/app", "all", index([(child, size)]), MEDIA_INDEX).status == 201
    answer = shop.put("team/app", "all2", index([(NONE, 5)]), MEDIA_INDEX)
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")


@pytest.mark.parametrize(("mode", "status"), [("none", 201), ("list", 201), ("all", 400)])
def test_which_manifests_of_an_index_are_needed_can_be_said(mode: str, status: int) -> None:
    rules = Validation(platforms=PlatformRules(mode, (("linux", "amd64"),)))
    with Registry.in_memory(rules) as registry, serving(registry) as shop:
        body = json.loads(index([(NONE, 5)]))
        body["manifests"][0]["platform"] = {"os": "linux", "architecture": "arm64"}
        answer = shop.put("team/app", "1", json.dumps(body).encode(), MEDIA_INDEX)
        assert answer.status == status


@pytest.mark.parametrize("media_type", [MEDIA_DOCKER_MANIFEST, MEDIA_DOCKER_INDEX])
def test_dockers_own_types_are_taken(shop: Shop, media_type: str) -> None:
    child = shop.push("team/app", "1")
    content = shop.get("/v2/team/app/manifests/1").body
    if media_type == MEDIA_DOCKER_INDEX:
        content = index([(child, len(content))])
    document = {**json.loads(content), "mediaType": media_type}
    body = json.dumps(document).encode()
    assert shop.put("team/app", "2", body, media_type).status == 201
    assert shop.get("/v2/team/app/manifests/2").header("content-type") == media_type


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"{}", b'{"schemaVersion":1,"fsLayers":[]}', b'{"schemaVersion":2}']
    + [b'{"schemaVersion":2,"config":{"digest":"x","size":1},"layers":[]}']
    + [b'{"schemaVersion":2,"config":{"digest":"%s","size":-1}}' % NONE.encode()]
    + [b'{"schemaVersion":2,"config":{"digest":"%s","size":1},"manifests":[]}' % NONE.encode()]
    + [b'{"schemaVersion":2,"config":{"digest":"%s","size":%d}}' % (NONE.encode(), 1 << 63)]
    + [b'{"schemaVersion":2,"artifactType":"\xff","config":{"digest":"x","size":1}}', b"\xff"]
    + [b"[" * 100_000, b'{"schemaVersion":2,"config":null,"layers":[null]}'],
)
def test_what_is_no_manifest_is_refused(shop: Shop, body: bytes) -> None:
    answer = shop.put("team/app", "1", body)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize(
    "media_type", ["text/html", "image/svg+xml", "text/html\r\nSet-Cookie: a=b"]
)
def test_a_manifest_that_calls_itself_a_page_is_none(shop: Shop, media_type: str) -> None:
    # Without the header, the document says what it is, and it would be sent as that.
    shop.push_blob("team/app", b"{}")
    body = manifest([], [], mediaType=media_type, annotations={"a": "<script>alert(1)</script>"})
    answer = shop.ask("PUT", "/v2/team/app/manifests/1", body)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


def test_what_is_in_the_storage_is_not_sent_as_a_page(shop: Shop) -> None:
    shop.push("team/app", "1")
    with shop.registry.metadata.change() as database:
        database.execute("UPDATE manifests SET media_type = 'text/html'")
    answer = shop.get("/v2/team/app/manifests/1")
    assert (answer.status, answer.header("content-type")) == (200, "application/octet-stream")


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/vnd.docker.distribution.manifest.v1+prettyjws"]
)
def test_a_manifest_of_an_unknown_type_is_refused(shop: Shop, media_type: str) -> None:
    shop.push("team/app", "1")
    body = shop.get("/v2/team/app/manifests/1").body
    answer = shop.put("team/app", "2", body, media_type)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


def test_a_document_is_not_taken_for_two_things(shop: Shop) -> None:
    shop.push("team/app", "1")
    body = shop.get("/v2/team/app/manifests/1").body
    answer = shop.put("team/app", "2", body, MEDIA_INDEX)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


def test_a_manifest_may_have_four_megabytes_and_no_more(shop: Shop) -> None:
    shop.push("team/app", "1")
    document = json.loads(shop.get("/v2/team/app/manifests/1").body)
    document["annotations"] = {"pad": ""}
    room = DOCUMENT_LIMIT - len(json.dumps(document))
    for extra, status in ((0, 201), (1, 413)):
        document["annotations"]["pad"] = "x" * (room + extra)
        body = json.dumps(document).encode()
        assert shop.put("team/app", "2", body).status == status
    pieces = [bytes(1 << 20)] * 5
    answer = shop.ask("PUT", "/v2/team/app/manifests/3", pieces)
    assert (answer.status, answer.code) == (413, "SIZE_INVALID")


NON_DISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
ELSEWHERE = expression("^https://elsewhere.example/")


def _with_url(url: str, kind: str) -> bytes:
    layer = {"mediaType": kind, "digest": NONE, "size": 7, "urls": [url]}
    config = {"mediaType": "application/x", "digest": sha(b"{}"), "size": 2}
    return json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()


@pytest.mark.parametrize(
    ("rules", "url", "kind", "status"),
    [
        (UrlRules(), "https://example.com/a", "application/x", 400),
        (UrlRules(), "https://example.com/a", NON_DISTRIBUTABLE, 201),
        (UrlRules(), "file:///etc/passwd", NON_DISTRIBUTABLE, 400),
        (UrlRules(allow=(ELSEWHERE,)), "https://example.com/a", NON_DISTRIBUTABLE, 400),
        (UrlRules(allow=(ELSEWHERE,)), "https://elsewhere.example/a", "application/x", 201),
        (UrlRules(disabled=True), "https://example.com/a", "application/x", 201),
    ],
)
def test_layers_that_are_elsewhere_need_a_permit(
    rules: UrlRules, url: str, kind: str, status: int
) -> None:
    with Registry.in_memory(Validation(rules)) as registry, serving(registry) as shop:
        shop.push_blob("team/app", b"{}")
        assert shop.put("team/app", "1", _with_url(url, kind)).status == status


def test_a_layer_that_may_not_be_distributed_need_not_be_here(shop: Shop) -> None:
    shop.push_blob("team/app", b"{}")
    document = json.loads(manifest([NONE], [b"nothing"]))
    document["layers"][0]["mediaType"] = NON_DISTRIBUTABLE
    assert shop.put("team/app", "1", json.dumps(document).encode()).status == 201


def test_a_removed_manifest_takes_its_tags_with_it(shop: Shop) -> None:
    digest = shop.push("team/app", "1")
    shop.push("team/app", "2")
    other = shop.push("team/app", "3", [b"another"])
    assert shop.ask("DELETE", f"/v2/team/app/manifests/{digest}").status == 202
    assert shop.get(f"/v2/team/app/manifests/{digest}").status == 404
    assert shop.tags("team/app") == ["3"]
    assert shop.get(f"/v2/team/app/manifests/{other}").status == 200


def test_a_removed_tag_leaves_the_manifest(shop: Shop) -> None:
    digest = shop.push("team/app", "1")
    assert shop.ask("DELETE", "/v2/team/app/manifests/1").status == 202
    assert shop.get("/v2/team/app/manifests/1").status == 404
    assert shop.get(f"/v2/team/app/manifests/{digest}").status == 200
    assert shop.tags("team/app") == []


@pytest.mark.parametrize("tag", ["-x", ".x", "a" * 129, "ä", "a b"])
def test_what_is_no_tag_is_refused(shop: Shop, tag: str) -> None:
    answer = shop.put("team/app", tag, b"{}")
    assert (answer.status, answer.code) == (400, "TAG_INVALID")


def test_who_has_the_manifest_is_not_sent_it(shop: Shop) -> None:
    digest = shop.push("team/app", "1")
    answer = shop.get("/v2/team/app/manifests/1", if_none_match=f'"{digest}"')
    assert (answer.status, answer.body) == (304, b"")
    for said in (digest, "*", f'"x", "{digest}"', f'W/"{digest}"'):
        assert shop.get("/v2/team/app/manifests/1", if_none_match=said).status == 304
    for said in ('"x"', digest[:-1], f'"{sha(b"x")}"'):
        assert shop.get("/v2/team/app/manifests/1", if_none_match=said).status == 200
    assert shop.get("/v2/team/app/manifests/2", if_none_match="*").status == 404


# --- referrers ---------------------------------------------------------------------------------


def _attach(shop: Shop, subject: str, kind: str, **more: object) -> str:
    described = {"mediaType": MEDIA_MANIFEST, "digest": subject, "size": 7}
    layers = [f"{kind}{more}".encode()]
    return shop.push("team/app", "", layers, subject=described, artifactType=kind, **more)


def test_a_manifest_without_referrers_has_an_empty_list(shop: Shop) -> None:
    answer = shop.get(f"/v2/team/app/referrers/{NONE}")
    assert answer.status == 200
    assert answer.header("content-type") == MEDIA_INDEX
    assert answer.json == {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": []}


def test_a_put_with_a_subject_says_that_it_was_understood(shop: Shop) -> None:
    shop.push_blob("team/app", b"{}")
    subject = {"mediaType": MEDIA_MANIFEST, "digest": NONE, "size": 7}
    answer = shop.put("team/app", "sig", manifest([], [], subject=subject))
    assert (answer.status, answer.header("oci-subject")) == (201, NONE)


def test_referrers_are_listed_with_type_and_annotations(shop: Shop) -> None:
    subject = shop.push("team/app", "1")
    first = _attach(shop, subject, "application/sbom", annotations={"a": "b"})
    _attach(shop, NONE, "application/sbom")
    (found,) = shop.get(f"/v2/team/app/referrers/{subject}").json["manifests"]
    size = len(shop.get(f"/v2/team/app/manifests/{first}").body)
    assert found == {
        "mediaType": MEDIA_MANIFEST,
        "digest": first,
        "size": size,
        "artifactType": "application/sbom",
        "annotations": {"a": "b"},
    }


def test_the_type_of_a_referrer_is_that_of_its_configuration_if_it_says_none(shop: Shop) -> None:
    subject = {"mediaType": MEDIA_MANIFEST, "digest": NONE, "size": 7}
    shop.push("team/app", "", subject=subject)
    (found,) = shop.get(f"/v2/team/app/referrers/{NONE}").json["manifests"]
    assert found["artifactType"] == "application/vnd.oci.image.config.v1+json"


def test_an_index_refers_too(shop: Shop) -> None:
    subject = {"mediaType": MEDIA_MANIFEST, "digest": NONE, "size": 7}
    body = index([], subject=subject, artifactType="application/x")
    assert shop.put("team/app", "i", body, MEDIA_INDEX).header("oci-subject") == NONE
    (found,) = shop.get(f"/v2/team/app/referrers/{NONE}").json["manifests"]
    assert (found["mediaType"], found["artifactType"]) == (MEDIA_INDEX, "application/x")


def test_referrers_are_filtered(shop: Shop) -> None:
    _attach(shop, NONE, "application/sbom")
    wanted = _attach(shop, NONE, "application/signature")
    answer = shop.get(f"/v2/team/app/referrers/{NONE}?artifactType=application/signature")
    assert [item["digest"] for item in answer.json["manifests"]] == [wanted]
    assert answer.header("oci-filters-applied") == "artifactType"
    assert not shop.get(f"/v2/team/app/referrers/{NONE}").header("oci-filters-applied")


def test_many_referrers_come_in_pages(shop: Shop) -> None:
    pad = "x" * 400_000
    pushed = {_attach(shop, NONE, "t", annotations={"n": f"{n}{pad}"}) for n in range(5)}
    url, found, pages = f"/v2/team/app/referrers/{NONE}?artifactType=t", [], 0
    while url:
        answer = shop.get(url)
        found += [item["digest"] for item in answer.json["manifests"]]
        url = answer.header("link").removeprefix("<").removesuffix('>; rel="next"')
        pages += 1
    assert (set(found), len(found), pages) == (pushed, 5, 3)


def test_of_many_large_referrers_no_more_are_read_than_are_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(16):
        _attach(shop, NONE, "t", annotations={"n": f"{number}{'x' * 900_000}"})
    read, rows = [0], shop.registry.metadata.rows

    def counted(query: str, *values: object) -> list[Row]:
        found = rows(query, *values)
        read[0] += sum(len(str(row)) for row in found)
        return found

    monkeypatch.setattr(shop.registry.metadata, "rows", counted)
    assert len(shop.get(f"/v2/team/app/referrers/{NONE}").json["manifests"]) == 1
    assert read[0] < 6 << 20


def test_referrers_that_are_read_in_parts_are_one_list(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "REFERRERS_ROWS", 2)
    monkeypatch.setattr(lists, "REFERRERS_READ", 1000)
    pushed = {_attach(shop, NONE, "t", n=number) for number in range(7)}
    answer = shop.get(f"/v2/team/app/referrers/{NONE}")
    assert {one["digest"] for one in answer.json["manifests"]} == pushed
    assert not answer.header("link")


def test_a_removed_referrer_is_not_listed(shop: Shop) -> None:
    digest = _attach(shop, NONE, "t")
    shop.ask("DELETE", f"/v2/team/app/manifests/{digest}")
    assert shop.get(f"/v2/team/app/referrers/{NONE}").json["manifests"] == []


def test_referrers_of_what_is_no_digest_are_refused(shop: Shop) -> None:
    answer = shop.get("/v2/team/app/referrers/latest")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
