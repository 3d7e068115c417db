"""If-Match and If-None-Match: two clients that change one tag do not undo each other's work."""

from __future__ import annotations

import json
import threading

import pytest

from sampan.spec.image import MEDIA_INDEX
from tests.own_registry import Answer, Shop, index, sha

TAG = "/v2/team/app/manifests/1"


def put(shop: Shop, body: bytes, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return shop.ask("PUT", TAG, body, {"Content-Type": MEDIA_INDEX, **given})


def empty(mark: str) -> bytes:
    return index([], annotations={"mark": mark})


def test_a_tag_moves_only_from_what_the_client_has_seen(shop: Shop) -> None:
    first, second, third = empty("1"), empty("2"), empty("3")
    put(shop, first)
    seen = shop.get(TAG).header("etag")
    assert seen == f'"{sha(first)}"'
    assert put(shop, second, If_Match=seen).status == 201
    late = put(shop, third, If_Match=seen)
    assert (late.status, late.code) == (412, "DENIED")
    assert late.json["errors"][0]["detail"] == {"digest": sha(second)}
    assert shop.get(TAG).body == second
    assert shop.get(f"/v2/team/app/manifests/{sha(third)}").status == 404
    assert put(shop, third, If_Match=f'"{sha(first)}", "{sha(second)}"').status == 201


def test_a_tag_is_made_only_where_there_is_none(shop: Shop) -> None:
    assert put(shop, empty("1"), If_Match="*").status == 412
    assert put(shop, empty("1"), If_None_Match="*").status == 201
    assert put(shop, empty("2"), If_None_Match="*").status == 412
    assert shop.get(TAG).body == empty("1")
    assert put(shop, empty("2"), If_None_Match=f'"{sha(empty("3"))}"').status == 201


@pytest.mark.parametrize("reference", ["1", sha(empty("1"))])
def test_what_has_changed_is_not_removed(shop: Shop, reference: str) -> None:
    put(shop, empty("1"))
    path = f"/v2/team/app/manifests/{reference}"
    assert shop.ask("DELETE", path, headers={"If-Match": f'"{sha(b"other")}"'}).status == 412
    assert shop.tags("team/app") == ["1"]
    assert shop.ask("DELETE", path, headers={"If-Match": f'"{sha(empty("1"))}"'}).status == 202
    assert shop.get(path).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_read_has_to_be_what_is_expected(shop: Shop, method: str) -> None:
    put(shop, empty("1"))
    for expected, status in ((sha(empty("1")), 200), (sha(b"other"), 412)):
        answer = shop.ask(method, TAG, headers={"If-Match": f'"{expected}"'})
        assert answer.status == status


def test_of_many_who_add_to_one_list_nobody_is_lost(shop: Shop) -> None:
    """What the specification calls a race of clients that keep lists of referrers in a tag."""
    put(shop, empty(""))

    def add(mark: str) -> None:
        while True:
            answer = shop.get(TAG)
            marks = json.loads(answer.body)["annotations"]["mark"]
            if put(shop, empty(marks + mark), If_Match=answer.header("etag")).status == 201:
                return

    adding = [threading.Thread(target=add, args=(mark,)) for mark in "abcdefgh"]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    assert sorted(shop.get(TAG).json["annotations"]["mark"]) == list("abcdefgh")
