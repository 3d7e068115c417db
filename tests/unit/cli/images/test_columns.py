"""Images are listed once per tag."""

from __future__ import annotations

from typing import Any

from sampan.cli.images.columns import is_dangling, rows


def names(image: dict[str, Any], digests: bool = False) -> list[tuple[str, str, str]]:
    return [(row["repository"], row["tag"], row["digest"]) for row in rows([image], digests)]


def test_each_tag_is_a_row() -> None:
    image = {"RepoTags": ["a:1", "a:2", "localhost:5000/b:3"], "RepoDigests": ["a@sha256:x"]}
    assert names(image) == [
        ("a", "1", "<none>"),
        ("a", "2", "<none>"),
        ("localhost:5000/b", "3", "<none>"),
    ]
    assert names(image, digests=True)[0] == ("a", "1", "sha256:x")


def test_an_image_without_a_name_is_a_row_too() -> None:
    assert names({"RepoTags": None, "RepoDigests": None}) == [("<none>", "<none>", "<none>")]
    assert is_dangling({"RepoTags": [], "RepoDigests": []})


def test_a_digest_without_a_tag_is_a_row() -> None:
    image = {"RepoTags": [], "RepoDigests": ["a@sha256:x"]}
    assert names(image, digests=True) == [("a", "<none>", "sha256:x")]
