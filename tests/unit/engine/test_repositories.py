"""Addresses of submodules."""

from __future__ import annotations

import pytest

from sampan.engine.repositories import module_url
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("parent", "url", "expected"),
    [
        ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
        ("https://h/a/b.git/", "./c", "https://h/a/b.git/c"),
        ("https://h/a/b.git", "../../x/c.git", "https://h/x/c.git"),
        ("git@h:a/b", "../c", "git@h:a/c"),
        ("git@h:b", "../c", "git@h:c"),
        ("https://h/b", "ssh://other/c", "ssh://other/c"),
        ("https://h/b", "../../c", ""),
        ("https://h/b", "../../../../c", ""),
        ("https://h/b", "-c", ""),
        ("https://h/b", "ssh://a\n", ""),
    ],
)
def test_the_address_of_a_submodule_may_be_relative(parent: str, url: str, expected: str) -> None:
    if expected:
        assert module_url(parent, url) == expected
        return
    with pytest.raises(InvalidArgument, match="invalid submodule"):
        module_url(parent, url)
