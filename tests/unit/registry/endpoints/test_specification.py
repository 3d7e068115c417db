"""Rules of the OCI distribution specification that no other test is about by itself.

Which test is about which rule: docs/reference/distribution-specification.md.
"""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.registry import names
from sampan.registry.errors import KINDS, RegistryError
from sampan.spec.image import MEDIA_INDEX, MEDIA_MANIFEST
from tests.own_registry import Answer, Shop, index, manifest, sha

NONE = sha(b"nothing")
DATA = b"0123456789" * 100
# spec.md, "Pulling manifests".
NAME = re.compile(
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*", re.ASCII
)
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
# spec.md, "Error Codes"; and what docker-registry has beside them.
CODES = set(
    """BLOB_UNKNOWN BLOB_UPLOAD_INVALID BLOB_UPLOAD_UNKNOWN DIGEST_INVALID MANIFEST_BLOB_UNKNOWN
    MANIFEST_INVALID MANIFEST_UNKNOWN NAME_INVALID NAME_UNKNOWN SIZE_INVALID UNAUTHORIZED DENIED
    UNSUPPORTED TOOMANYREQUESTS""".split()
)
DOCKERS = {"TAG_INVALID", "RANGE_INVALID", "PAGINATION_NUMBER_INVALID", "UNAVAILABLE", "UNKNOWN"}


def path_of(answer: Answer) -> str:
    """Return the path of the place that an answer tells."""
    return urlsplit(answer.header("location")).path


# --- names, and errors -------------------------------------------------------------------------


@given(st.from_regex(NAME, fullmatch=True))
def test_every_name_of_the_grammar_is_one_up_to_255_letters(name: str) -> None:
    assert names.is_repository(name) == (len(name) <= 255)


@given(st.from_regex(TAG, fullmatch=True))
def test_every_tag_of_the_grammar_is_one(tag: str) -> None:
    assert names.is_tag(tag)


@given(st.text(max_size=140))
def test_what_the_grammar_does_not_know_is_neither(text: str) -> None:
    assert names.is_repository(text) == bool(NAME.fullmatch(text))
    assert names.is_tag(text) == bool(TAG.fullmatch(text))


@pytest.mark.parametrize("code", KINDS)
def test_an_error_has_the_form_and_the_codes_of_the_specification(code: str) -> None:
    assert code in CODES | DOCKERS
    assert re.fullmatch("[A-Z_]+", code)
    (told,) = json.loads(RegistryError(code, {"a": 1}).body)["errors"]
    assert (told["code"], told["detail"]) == (code, {"a": 1})
    assert isinstance(told["message"], str)


def test_every_code_of_the_specification_is_used() -> None:
    assert KINDS.keys() >= CODES


# --- pull --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_is_in_a_repository_that_does_not_exist(shop: Shop, method: str) -> None:
    for place in ("manifests/1", f"manifests/{NONE}", f"blobs/{NONE}"):
        assert shop.ask(method, f"/v2/no/where/{place}").status == 404


def test_a_manifest_comes_back_byte_for_byte_without_parameters_of_its_type(shop: Shop) -> None:
    shop.push_blob("team/app", b"{}")
    body = b"\n " + manifest([], []).replace(b",", b" ,\r\n\t") + b"\n\n"
    answer = shop.put("team/app", "1", body, f"{MEDIA_MANIFEST}; charset=utf-8")
    assert answer.status == 201
    answer = shop.get("/v2/team/app/manifests/1")
    assert (answer.body, answer.header("content-type")) == (body, MEDIA_MANIFEST)


# --- push --------------------------------------------------------------------------------------


def test_what_was_pushed_can_be_pulled_where_the_answer_says(shop: Shop) -> None:
    place = f"/v2/team/app/blobs/uploads/?digest={sha(b'one')}"
    assert shop.get(path_of(shop.ask("POST", place, b"one"))).body == b"one"
    place = path_of(shop.ask("POST", "/v2/team/app/blobs/uploads/"))
    done = shop.ask("PUT", f"{place}?digest={sha(b'two')}", b"two")
    assert shop.get(path_of(done)).body == b"two"
    done = shop.ask("POST", f"/v2/team/b/blobs/uploads/?mount={sha(b'one')}&from=team/app")
    assert shop.get(path_of(done)).body == b"one"
    for reference in ("1", sha(index([]))):
        done = shop.put("team/app", reference, index([]), MEDIA_INDEX)
        assert shop.get(path_of(done)).body == index([])


def test_every_upload_is_one_of_its_own(shop: Shop) -> None:
    assert shop.begin("team/app") != shop.begin("team/app")


def test_the_first_chunk_begins_at_zero(shop: Shop) -> None:
    place = shop.begin("team/app")
    answer = shop.ask("PATCH", place, DATA[1:], {"Content-Range": f"1-{len(DATA) - 1}"})
    assert answer.status == 416
    assert shop.ask("PATCH", place, DATA[:9], {"Content-Range": "0-8"}).status == 202


def test_chunks_may_have_any_length(shop: Shop) -> None:
    answer = shop.ask("POST", "/v2/team/app/blobs/uploads/", headers={"Content-Length": "0"})
    assert answer.header("oci-chunk-min-length") in ("", "0", "1")
    place, at = path_of(answer), 0
    for length in (1, 500, 2, 497):
        headers = {"Content-Range": f"{at}-{at + length - 1}"}
        done = shop.ask("PATCH", place, DATA[at : at + length], headers)
        at += length
        assert (done.status, done.header("range")) == (202, f"0-{at - 1}")
        place = path_of(done)
    assert shop.ask("PUT", f"{place}?digest={sha(DATA)}").status == 201


def test_an_upload_does_not_end_without_a_digest(shop: Shop) -> None:
    place = shop.begin("team/app")
    answer = shop.ask("PUT", place, DATA)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert shop.ask("PUT", f"{place}?digest={sha(DATA)}", DATA).status == 201


def test_an_upload_that_has_ended_is_none_any_more(shop: Shop) -> None:
    place = shop.begin("team/app")
    assert shop.ask("PUT", f"{place}?digest={sha(DATA)}", DATA).status == 201
    for method in ("GET", "PATCH", "DELETE"):
        assert shop.ask(method, place).status == 404


def test_what_could_not_be_mounted_is_uploaded_there(shop: Shop) -> None:
    query = f"mount={sha(DATA)}&from=team/other"
    answer = shop.ask("POST", f"/v2/team/app/blobs/uploads/?{query}")
    assert answer.status == 202
    assert shop.ask("PUT", f"{path_of(answer)}?digest={sha(DATA)}", DATA).status == 201


def test_a_wrong_digest_or_length_makes_no_blob_in_one_post(shop: Shop) -> None:
    wrong = f"/v2/team/app/blobs/uploads/?digest={NONE}"
    answer = shop.ask("POST", wrong, DATA)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    cut = f"/v2/team/app/blobs/uploads/?digest={sha(DATA)}"
    shop.ask("POST", cut, [DATA[:50]], {"Content-Length": str(len(DATA))}, hang_up=True)
    for digest in (NONE, sha(DATA), sha(DATA[:50])):
        assert shop.get(f"/v2/team/app/blobs/{digest}").status == 404


def test_a_bad_tag_among_many_makes_none(shop: Shop) -> None:
    reference = f"{sha(index([]))}?tag=good&tag=-bad"
    answer = shop.put("team/app", reference, index([]), MEDIA_INDEX)
    assert answer.status == 400
    assert shop.get("/v2/team/app/manifests/good").status == 404


def test_a_subject_may_come_before_or_after(shop: Shop) -> None:
    body = index([], annotations={"is": "the subject"})
    subject = {"mediaType": MEDIA_INDEX, "digest": sha(body), "size": len(body)}
    before = shop.push("team/app", "before", [b"1"], subject=subject)
    assert shop.put("team/app", "1", body, MEDIA_INDEX).status == 201
    after = shop.push("team/app", "after", [b"2"], subject=subject)
    listed = shop.get(f"/v2/team/app/referrers/{sha(body)}").json["manifests"]
    assert {item["digest"] for item in listed} == {before, after}


# --- lists -------------------------------------------------------------------------------------


def test_tags_go_on_after_one_that_is_not_there(shop: Shop) -> None:
    for tag in ("a", "c", "d", "e"):
        shop.push("team/app", tag)
    answer = shop.get("/v2/team/app/tags/list?last=b&n=2")
    assert answer.json == {"name": "team/app", "tags": ["c", "d"]}
    assert 'rel="next"' in answer.header("link")
    assert shop.get("/v2/team/app/tags/list?last=e").json["tags"] == []
    answer = shop.get("/v2/team/app/tags/list?last=b&n=0")
    assert (answer.json["tags"], answer.header("link")) == ([], "")


def _attached(shop: Shop, **more: object) -> dict[str, object]:
    subject = {"mediaType": MEDIA_MANIFEST, "digest": NONE, "size": 7}
    assert shop.put("team/app", "i", index([], subject=subject, **more), MEDIA_INDEX).status == 201
    (found,) = shop.get(f"/v2/team/app/referrers/{NONE}").json["manifests"]
    return dict(found)


@pytest.mark.parametrize("given", [{}, {"artifactType": ""}])
def test_an_index_without_a_type_is_listed_without_one(shop: Shop, given: dict[str, str]) -> None:
    found = _attached(shop, annotations={"a": "b"}, **given)
    assert "artifactType" not in found
    assert found["annotations"] == {"a": "b"}


def test_a_repository_that_does_not_exist_has_an_empty_list_of_referrers(shop: Shop) -> None:
    for query in ("", "?artifactType=application/x"):
        answer = shop.get(f"/v2/no/where/referrers/{NONE}{query}")
        assert (answer.status, answer.json["manifests"]) == (200, [])
        assert answer.header("content-type") == MEDIA_INDEX
        assert answer.header("oci-filters-applied") == ("artifactType" if query else "")


@pytest.mark.parametrize(
    "digest", ["latest", "sha256:abc", "sha256:" + "x" * 64, "md5:" + "0" * 32]
)
def test_a_referrers_request_that_is_none_is_a_bad_one(shop: Shop, digest: str) -> None:
    answer = shop.get(f"/v2/team/app/referrers/{digest}")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_extensions_are_told(shop: Shop) -> None:
    shop.push_blob("team/app", b"x")
    answer = shop.get("/v2/_oci/ext/discover")
    assert answer.status == 200
    told = {item["name"]: item["endpoints"] for item in answer.json["extensions"]}
    assert told == {"_oci": ["_oci/ext/discover"], "_catalog": ["_catalog"]}
    for endpoints in told.values():
        assert all(shop.get(f"/v2/{endpoint}").status == 200 for endpoint in endpoints)
    answer = shop.get("/v2/team/app/_oci/ext/discover")
    assert [item["name"] for item in answer.json["extensions"]] == ["_oci"]
    assert all(item["url"].startswith("https://") for item in answer.json["extensions"])


# --- delete ------------------------------------------------------------------------------------


def test_nothing_is_deleted_in_a_repository_that_does_not_exist(shop: Shop) -> None:
    for place in ("manifests/1", f"manifests/{NONE}", f"blobs/{NONE}"):
        assert shop.ask("DELETE", f"/v2/no/where/{place}").status == 404


def test_a_deleted_blob_is_gone_until_it_is_pushed_again(shop: Shop) -> None:
    digest = shop.push_blob("team/app", DATA)
    assert shop.ask("DELETE", f"/v2/team/app/blobs/{digest}").status == 202
    assert shop.get(f"/v2/team/app/blobs/{digest}").status == 404
    assert shop.ask("DELETE", f"/v2/team/app/blobs/{digest}").status == 404
    shop.push_blob("team/app", DATA)
    assert shop.get(f"/v2/team/app/blobs/{digest}").body == DATA
