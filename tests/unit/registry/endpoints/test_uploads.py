from __future__ import annotations

import re
import threading

import pytest

from sampan.registry.auth.access import Everything, Scope
from sampan.registry.registry import Registry
from sampan.registry.service import Service
from tests.own_registry import Shop, serving, sha

DATA = b"0123456789" * 1000


def test_an_upload_begins_with_a_place_and_an_empty_range(shop: Shop) -> None:
    answer = shop.ask("POST", "/v2/team/app/blobs/uploads/")
    assert answer.status == 202
    place = r"http://registry\.test/v2/team/app/blobs/uploads/[0-9a-f-]{36}"
    assert re.fullmatch(place, answer.header("location"))
    assert answer.header("range") == "0-0"
    assert answer.header("docker-upload-uuid") in answer.header("location")
    assert answer.header("content-length") == "0"


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_blob_goes_in_one_put(shop: Shop, algorithm: str) -> None:
    digest = shop.push_blob("team/app", DATA, algorithm)
    answer = shop.get(f"/v2/team/app/blobs/{digest}")
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.header("docker-content-digest") == digest


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_blob_goes_in_one_post(shop: Shop, algorithm: str) -> None:
    digest = sha(DATA, algorithm)
    answer = shop.ask("POST", f"/v2/team/app/blobs/uploads/?digest={digest}", DATA)
    assert answer.status == 201
    assert answer.header("location") == f"http://registry.test/v2/team/app/blobs/{digest}"
    assert answer.header("docker-content-digest") == digest
    assert shop.get(f"/v2/team/app/blobs/{digest}").body == DATA


def test_a_blob_streams_in_a_patch_without_a_length(shop: Shop) -> None:
    place = shop.begin("team/app")
    answer = shop.ask("PATCH", place, [DATA, DATA, b""])
    assert (answer.status, answer.header("range")) == (202, f"0-{2 * len(DATA) - 1}")
    answer = shop.ask("PUT", f"{place}?digest={sha(DATA * 2)}")
    assert answer.status == 201
    assert shop.get(f"/v2/team/app/blobs/{sha(DATA * 2)}").body == DATA * 2


def test_a_blob_goes_in_chunks_the_last_of_them_in_the_put(shop: Shop) -> None:
    place = shop.begin("team/app")
    for first in (0, 10, 20):
        piece = DATA[first : first + 10]
        headers = {"Content-Range": f"{first}-{first + 9}"}
        answer = shop.ask("PATCH", place, piece, headers)
        assert (answer.status, answer.header("range")) == (202, f"0-{first + 9}")
        assert answer.header("location").endswith(place)
    rest = DATA[30:]
    headers = {"Content-Range": f"30-{len(DATA) - 1}"}
    assert shop.ask("PUT", f"{place}?digest={sha(DATA)}", rest, headers).status == 201


@pytest.mark.parametrize("first", [0, 5, 11])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_chunk_out_of_order_is_refused_and_told_where_to_go_on(
    shop: Shop, first: int, method: str
) -> None:
    place = shop.begin("team/app")
    shop.ask("PATCH", place, DATA[:10])
    query = f"?digest={sha(DATA)}" if method == "PUT" else ""
    headers = {"Content-Range": f"{first}-{first + 9}"}
    answer = shop.ask(method, place + query, DATA[10:20], headers)
    assert (answer.status, answer.code) == (416, "RANGE_INVALID")
    assert answer.header("range") == "0-9"
    assert answer.header("location").endswith(place)
    assert shop.ask("PUT", f"{place}?digest={sha(DATA)}", DATA[10:]).status == 201


def test_a_chunk_of_another_length_than_its_range_is_refused(shop: Shop) -> None:
    place = shop.begin("team/app")
    answer = shop.ask("PATCH", place, b"123", {"Content-Range": "0-9"})
    assert (answer.status, answer.code) == (400, "SIZE_INVALID")


@pytest.mark.parametrize("text", ["x", "5-3", "0-", "-5", "0-9-3", f"0-{'9' * 40}"])
def test_a_range_that_is_none_is_refused(shop: Shop, text: str) -> None:
    place = shop.begin("team/app")
    answer = shop.ask("PATCH", place, b"123", {"Content-Range": text})
    assert (answer.status, answer.code) == (416, "RANGE_INVALID")


def test_the_state_of_an_upload_can_be_asked(shop: Shop) -> None:
    place = shop.begin("team/app")
    shop.ask("PATCH", place, DATA[:77])
    answer = shop.get(place)
    assert (answer.status, answer.header("range")) == (204, "0-76")
    assert answer.header("location").endswith(place)


def test_a_broken_chunk_keeps_what_arrived(shop: Shop) -> None:
    place = shop.begin("team/app")
    shop.ask("PATCH", place, [DATA[:100]], hang_up=True)
    assert shop.get(place).header("range") == "0-99"
    headers = {"Content-Range": f"100-{len(DATA) - 1}"}
    assert shop.ask("PATCH", place, DATA[100:], headers).status == 202
    assert shop.ask("PUT", f"{place}?digest={sha(DATA)}").status == 201


def test_a_broken_last_piece_makes_no_blob(shop: Shop) -> None:
    place = shop.begin("team/app")
    shop.ask("PUT", f"{place}?digest={sha(DATA[:100])}", [DATA[:100]], hang_up=True)
    assert shop.get(f"/v2/team/app/blobs/{sha(DATA[:100])}").status == 404


def test_a_cancelled_upload_is_gone(shop: Shop) -> None:
    place = shop.begin("team/app")
    shop.ask("PATCH", place, DATA)
    assert shop.ask("DELETE", place).status == 204
    answer = shop.get(place)
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("id", ["00000000-0000-0000-0000-000000000000", "..", "x"])
def test_an_unknown_upload_is_told(shop: Shop, method: str, id: str) -> None:
    shop.begin("team/app")
    query = f"?digest={sha(b'')}" if method == "PUT" else ""
    answer = shop.ask(method, f"/v2/team/app/blobs/uploads/{id}{query}")
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_an_upload_belongs_to_its_repository(shop: Shop) -> None:
    place = shop.begin("team/app").replace("team/app", "team/other")
    assert shop.ask("PATCH", place, DATA).status == 404


def test_content_of_another_digest_is_refused_and_the_upload_is_over(shop: Shop) -> None:
    place = shop.begin("team/app")
    answer = shop.ask("PUT", f"{place}?digest={sha(b'other')}", DATA)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert shop.get(f"/v2/team/app/blobs/{sha(b'other')}").status == 404
    assert shop.get(place).status == 404


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:abc", "md5:" + "0" * 32, "sha384:" + "0" * 64, "latest"]
)
def test_a_digest_that_we_cannot_verify_is_refused(shop: Shop, digest: str) -> None:
    place = shop.begin("team/app")
    answer = shop.ask("PUT", f"{place}?digest={digest}", DATA)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert shop.get(place).status == 204


def test_an_algorithm_can_be_announced(shop: Shop) -> None:
    for algorithm in ("sha384", "sha512"):
        place = shop.begin("team/app", f"?digest-algorithm={algorithm}")
        shop.ask("PATCH", place, DATA)
        assert shop.ask("PUT", f"{place}?digest={sha(DATA, algorithm)}").status == 201
    answer = shop.ask("POST", "/v2/team/app/blobs/uploads/?digest-algorithm=md5")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_two_writers_on_one_upload_are_told_apart(shop: Shop) -> None:
    place = shop.begin("team/app")
    upload = place.rpartition("/")[2]
    with shop.registry.uploads.receive("team/app", upload):
        answer = shop.ask("PATCH", place, DATA)
        assert (answer.status, answer.code) == (409, "BLOB_UPLOAD_INVALID")
    assert shop.ask("PATCH", place, DATA).status == 202


def test_a_cancelled_upload_waits_for_a_writer_who_is_about_to_leave(shop: Shop) -> None:
    place = shop.begin("team/app")
    upload = place.rpartition("/")[2]
    writer = shop.registry.uploads.receive("team/app", upload)
    leaving = threading.Timer(0.05, writer.close)
    leaving.start()
    assert shop.ask("DELETE", place).status == 204
    leaving.join()
    assert shop.get(place).status == 404


def test_a_blob_of_another_repository_is_mounted(shop: Shop) -> None:
    digest = shop.push_blob("team/source", DATA)
    answer = shop.ask("POST", f"/v2/team/app/blobs/uploads/?mount={digest}&from=team/source")
    assert answer.status == 201
    assert answer.header("location") == f"http://registry.test/v2/team/app/blobs/{digest}"
    assert answer.header("docker-content-digest") == digest
    assert shop.get(f"/v2/team/app/blobs/{digest}").body == DATA


def test_a_blob_is_mounted_from_wherever_it_is(shop: Shop) -> None:
    digest = shop.push_blob("team/source", DATA)
    answer = shop.ask("POST", f"/v2/team/app/blobs/uploads/?mount={digest}")
    assert answer.status == 201


def test_a_mount_of_what_is_not_there_begins_an_upload(shop: Shop) -> None:
    shop.push_blob("team/source", DATA)
    for query in (f"mount={sha(b'x')}&from=team/source", f"mount={sha(DATA)}&from=team/none"):
        answer = shop.ask("POST", f"/v2/team/app/blobs/uploads/?{query}")
        assert answer.status == 202
        assert (
            shop.get(answer.header("location").removeprefix("http://registry.test")).status == 204
        )


@pytest.mark.parametrize(
    "query",
    ["mount=", "mount=abc&from=team/source", "mount=&from=team/source", "mount={}&from=Bad"],
)
def test_a_mount_of_what_cannot_be_begins_an_upload(shop: Shop, query: str) -> None:
    digest = shop.push_blob("team/source", DATA)
    answer = shop.ask("POST", f"/v2/team/app/blobs/uploads/?{query.format(digest)}")
    assert answer.status == 202
    assert shop.get(f"/v2/team/app/blobs/{digest}").status == 404


def test_nobody_mounts_what_they_may_not_read() -> None:
    class OwnOnly(Everything):
        def classes(self, repository: str) -> tuple[str, ...]:
            return ()

        def allows(self, scope: Scope) -> bool:
            return scope.name == "team/app"

    class Access:
        def blocks(self, request: object) -> bool:
            return False

        def authorize(self, *_: object) -> OwnOnly:
            return OwnOnly("somebody")

    with Registry.in_memory() as registry:
        with serving(registry) as everybody:
            digest = everybody.push_blob("secret/source", DATA)
        with serving(registry, access=Access()) as shop:
            for query in (f"mount={digest}&from=secret/source", f"mount={digest}"):
                assert shop.ask("POST", f"/v2/team/app/blobs/uploads/?{query}").status == 202


def test_addresses_can_be_relative_or_of_another_host() -> None:
    with Registry.in_memory() as registry:
        with serving(registry, Service(relative_urls=True)) as shop:
            place = shop.ask("POST", "/v2/team/app/blobs/uploads/").header("location")
            assert place.startswith("/v2/team/app/blobs/uploads/")
        with serving(registry, Service(host="https://hub.test:8443")) as shop:
            place = shop.ask("POST", "/v2/team/app/blobs/uploads/").header("location")
            assert place.startswith("https://hub.test:8443/v2/")
        with serving(registry) as shop:
            headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "front.test"}
            answer = shop.ask("POST", "/v2/team/app/blobs/uploads/", headers=headers)
            assert answer.header("location").startswith("https://front.test/v2/")
            headers["Forwarded"] = 'for=192.0.2.9;proto=http;host="first.test:99"'
            answer = shop.ask("POST", "/v2/team/app/blobs/uploads/", headers=headers)
            assert answer.header("location").startswith("http://first.test:99/v2/")


@pytest.mark.parametrize(
    ("service", "begins"),
    [
        (Service(prefix="/p/"), "http://registry.test/p/v2/a/"),
        (Service(prefix="/p/", relative_urls=True), "/p/v2/a/"),
        # The host is the whole address: a proxy may have another prefix than we, or none.
        (Service(prefix="/p/", host="https://hub.test"), "https://hub.test/v2/a/"),
        (Service(prefix="/p/", host="https://hub.test/q"), "https://hub.test/q/v2/a/"),
        (Service(host="https://hub.test/q", relative_urls=True), "https://hub.test/q/v2/a/"),
    ],
)
def test_addresses_have_the_prefix_that_clients_see(service: Service, begins: str) -> None:
    with Registry.in_memory() as registry, serving(registry, service) as shop:
        answer = shop.ask("POST", f"{service.prefix}v2/a/blobs/uploads/")
        assert answer.header("location").startswith(begins)
