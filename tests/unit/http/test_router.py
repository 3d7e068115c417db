"""Paths to handlers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sampan.http.router import Router, Routes


@pytest.fixture
def router() -> Router[Callable[[], str]]:
    routes: Routes[Callable[[], str]] = Routes()
    routes.on("GET", "/containers/json")(lambda: "list")
    routes.on("GET", "/containers/{name}/json")(lambda: "inspect")
    routes.on("GET", "/images/{name:.*}/json")(lambda: "image")
    routes.on("DELETE", "/images/{name:.*}")(lambda: "remove")
    return Router(routes)


def test_a_parameter_is_one_segment(router: Router[Callable[[], str]]) -> None:
    found = router.find("GET", "/containers/web/json")
    assert found is not None
    assert found[0]() == "inspect"
    assert found[1] == {"name": "web"}
    assert router.find("GET", "/containers/a/b/json") is None


def test_a_long_parameter_may_have_slashes(router: Router[Callable[[], str]]) -> None:
    found = router.find("GET", "/images/localhost:5000/a/b/json")
    assert found is not None
    assert found[1] == {"name": "localhost:5000/a/b"}


@pytest.mark.parametrize("path", ["", "/", "containers/json", "/containers", "/containers//json"])
def test_other_paths_find_nothing(router: Router[Callable[[], str]], path: str) -> None:
    assert router.find("GET", path) is None


def test_the_method_counts(router: Router[Callable[[], str]]) -> None:
    assert router.find("POST", "/containers/json") is None
    assert router.operations[-1] == ("DELETE", "/images/{name:.*}")
