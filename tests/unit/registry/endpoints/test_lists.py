from __future__ import annotations

import pytest

from sampan.registry.registry import Registry
from sampan.registry.service import Service
from tests.own_registry import Shop, serving


def _next(link: str) -> str:
    assert link.endswith('>; rel="next"')
    return link.removeprefix("<").removesuffix('>; rel="next"')


def test_the_base_says_that_here_is_a_registry(shop: Shop) -> None:
    for path in ("/v2/", "/v2"):
        answer = shop.get(path)
        assert (answer.status, answer.json) == (200, {})
        assert answer.header("docker-distribution-api-version") == "registry/2.0"


def test_tags_come_in_the_order_of_bytes(shop: Shop) -> None:
    for tag in ("b", "B", "a.1", "_", "10", "9"):
        shop.push("team/app", tag)
    answer = shop.get("/v2/team/app/tags/list")
    assert answer.json == {"name": "team/app", "tags": ["10", "9", "B", "_", "a.1", "b"]}
    assert not answer.header("link")


def test_tags_come_in_pages(shop: Shop) -> None:
    for tag in "abcde":
        shop.push("team/app", tag)
    first = shop.get("/v2/team/app/tags/list?n=2")
    assert first.json["tags"] == ["a", "b"]
    second = shop.get(_next(first.header("link")))
    assert second.json["tags"] == ["c", "d"]
    third = shop.get(_next(second.header("link")))
    assert (third.json["tags"], third.header("link")) == (["e"], "")
    assert shop.get("/v2/team/app/tags/list?last=c").json["tags"] == ["d", "e"]
    assert shop.get("/v2/team/app/tags/list?n=5").header("link") == ""


def test_no_tags_can_be_asked_for(shop: Shop) -> None:
    shop.push("team/app", "a")
    answer = shop.get("/v2/team/app/tags/list?n=0")
    assert (answer.status, answer.json["tags"], answer.header("link")) == (200, [], "")


def test_a_repository_without_tags_is_known_and_another_is_not(shop: Shop) -> None:
    shop.push_blob("team/app", b"x")
    assert shop.get("/v2/team/app/tags/list").json["tags"] == []
    answer = shop.get("/v2/team/none/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize("path", ["/v2/_catalog", "/v2/team/app/tags/list"])
@pytest.mark.parametrize("n", ["-1", "x", "1.5", "١"])
def test_a_number_that_is_none_is_refused(shop: Shop, path: str, n: str) -> None:
    shop.push("team/app", "a")
    answer = shop.get(f"{path}?n={n}")
    assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")


def test_a_slash_at_the_end_does_no_harm(shop: Shop) -> None:
    shop.push("team/app", "1")
    assert shop.get("/v2/team/app/tags/list/").json["tags"] == ["1"]
    assert shop.get("/v2/_catalog/").json["repositories"] == ["team/app"]


def test_repositories_come_in_pages(shop: Shop) -> None:
    for name in ("b", "a/b", "a", "a-b", "c"):
        shop.push(name, "1")
    assert shop.get("/v2/_catalog").json == {"repositories": ["a", "a-b", "a/b", "b", "c"]}
    first = shop.get("/v2/_catalog?n=3")
    assert first.json["repositories"] == ["a", "a-b", "a/b"]
    second = shop.get(_next(first.header("link")))
    assert (second.json["repositories"], second.header("link")) == (["b", "c"], "")


def test_more_repositories_than_permitted_are_refused() -> None:
    with Registry.in_memory() as registry, serving(registry, Service(catalog_max=2)) as shop:
        for name in "abc":
            shop.push_blob(name, b"x")
        assert shop.get("/v2/_catalog").json["repositories"] == ["a", "b"]
        answer = shop.get("/v2/_catalog?n=3")
        assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")


def test_more_tags_than_permitted_come_in_pages() -> None:
    with Registry.in_memory() as registry, serving(registry, Service(tags_max=2)) as shop:
        for tag in "abc":
            shop.push("team/app", tag)
        answer = shop.get("/v2/team/app/tags/list?n=3")
        assert answer.json["tags"] == ["a", "b"]
        assert _next(answer.header("link")).endswith("last=b&n=2")
        # Who does not ask for pages may not know of them.
        answer = shop.get("/v2/team/app/tags/list")
        assert (answer.json["tags"], answer.header("link")) == (["a", "b", "c"], "")


def test_repositories_are_found_by_a_part_of_their_names(shop: Shop) -> None:
    for name in ("team/app", "team/application", "other/tool", "x/a_p"):
        shop.push_blob(name, b"x")
    ping = shop.get("/v1/_ping")
    assert (ping.status, ping.header("x-docker-registry-standalone")) == (200, "true")

    def found(query: str) -> list[str]:
        answer = shop.get(f"/v1/search?{query}").json
        assert answer["num_results"] == len(answer["results"])
        return [item["name"] for item in answer["results"]]

    assert found("q=app") == ["team/app", "team/application"]
    assert found("q=App&n=1") == ["team/app"]
    assert found("q=a_p") == ["x/a_p"]
    assert found("q=%25") == []
    assert shop.get("/v1/search").status == 400


def test_an_upload_alone_makes_no_repository(shop: Shop) -> None:
    shop.begin("team/app")
    assert shop.get("/v2/_catalog").json["repositories"] == []
