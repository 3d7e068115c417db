"""Answers that are kept: never older than the last change, never more than there is room for."""

from __future__ import annotations

import pytest

from sampan.registry.kept import LARGEST, OVERHEAD, Answer, Kept
from tests.own_registry import Shop


def keep(kept: Kept, *key: str, body: bytes = b"x") -> Answer:
    return kept.make(key, lambda: Answer(body))


def test_an_answer_is_kept_until_its_subject_changes() -> None:
    kept = Kept()
    made = keep(kept, "a", "1")
    keep(kept, "b", "1")
    assert kept.get(("a", "1")) is made
    kept.forget({"a"})
    assert kept.get(("a", "1")) is None
    assert kept.get(("b", "1"))


def test_an_answer_that_was_overtaken_is_not_kept() -> None:
    kept = Kept()

    def ask() -> Answer:
        kept.forget({"other"})
        return Answer(b"old")

    assert kept.make(("a",), ask).body == b"old"
    assert kept.get(("a",)) is None


def test_what_is_asked_for_stays_longest() -> None:
    kept = Kept(3 * (OVERHEAD + 1))
    for key in "abc":
        keep(kept, key)
    assert kept.get(("a",))
    keep(kept, "d")
    assert [bool(kept.get((key,))) for key in "abcd"] == [True, False, True, True]


def test_a_huge_answer_is_not_kept() -> None:
    kept = Kept()
    keep(kept, "a", body=bytes(LARGEST))
    assert kept.get(("a",)) is None


@pytest.mark.parametrize("query", ["", "?n=1000", "?n=1"])
def test_lists_say_what_the_last_change_left(shop: Shop, query: str) -> None:
    def seen() -> tuple[list[str], list[str]]:
        catalog = shop.get(f"/v2/_catalog{query}").json["repositories"]
        answer = shop.get(f"/v2/b/tags/list{query}")
        return catalog, answer.json["tags"] if answer.status == 200 else []

    assert seen() == ([], [])
    shop.push_blob("b", b"x")
    assert seen() == (["b"], [])
    digest = shop.push("b", "1")
    assert seen() == (["b"], ["1"])
    shop.push("a", "1")
    assert seen()[0] == (["a", "b"] if query != "?n=1" else ["a"])
    shop.put("b", "0", shop.get("/v2/b/manifests/1").body)
    assert seen()[1] == (["0", "1"] if query != "?n=1" else ["0"])
    shop.ask("DELETE", "/v2/b/manifests/0")
    assert seen()[1] == ["1"]
    shop.ask("DELETE", f"/v2/b/manifests/{digest}")
    assert seen()[1] == []
    shop.push("b", "2")
    shop.ask("DELETE", "/v2/b/manifests/2")
    shop.registry.collector.collect(-1, untagged=True)
    assert seen()[1] == []


def test_a_change_that_fails_leaves_no_answer_behind(shop: Shop) -> None:
    shop.push("b", "1")
    metadata = shop.registry.metadata
    with pytest.raises(KeyError), metadata.change() as database:
        database.execute("DELETE FROM tags")
        assert shop.tags("b") == ["1"]
        raise KeyError
    assert shop.tags("b") == ["1"]
