"""Addresses of git repositories."""

from __future__ import annotations

import pytest

from sampan.build.contexts.git import is_repository, parse_repository
from sampan.errors import InvalidArgument


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://host/x.git", ("https://host/x.git", "", "")),
        ("http://host/x.git#v1.0", ("http://host/x.git", "v1.0", "")),
        ("https://host/x.git#:a/b", ("https://host/x.git", "", "a/b")),
        ("https://host/x.git#feature/y:../../a", ("https://host/x.git", "feature/y", "a")),
        ("git://host/x", ("git://host/x", "", "")),
        ("ssh://git@host/x#main", ("ssh://git@host/x", "main", "")),
        ("git@host:x/y#main", ("git@host:x/y", "main", "")),
        ("github.com/a/b", ("https://github.com/a/b", "", "")),
        ("https://host/x.git?ref=v1&subdir=a/b", ("https://host/x.git", "v1", "a/b")),
        ("https://host/x.git?tag=v1", ("https://host/x.git", "refs/tags/v1", "")),
        ("https://host/x.git?branch=b#:a", ("https://host/x.git", "refs/heads/b", "a")),
        ("https://host/x.git?ref=a&submodules=false#a", ("https://host/x.git", "a", "")),
    ],
)
def test_an_address_is_read(address: str, expected: tuple[str, str, str]) -> None:
    assert is_repository(address)
    found = parse_repository(address)
    assert (found.url, found.ref, found.folder) == expected


@pytest.mark.parametrize(
    "address", ["https://host/x.tar", "https://host/x", "a/b", "/x.git", "x.git", "github.com"]
)
def test_other_addresses_are_none(address: str) -> None:
    assert not is_repository(address)


@pytest.mark.parametrize(
    "address",
    [
        "git://host/x#--upload-pack=evil",
        "git://host/x#a..b",
        "git://host/x#a b",
        "git://host/x\n#a",
        "git://host/x#a:\0",
        "-oProxyCommand=evil@host:x",
        "https://host/x.git?ref=--upload-pack=evil",
        "https://host/x.git?ref=a#b",
        "https://host/x.git?ref=a&ref=b",
        "https://host/x.git?ref=",
        "https://host/x.git?subdir=a#:b",
        "https://host/x.git?checksum=x",
        "https://host/x.git?other=1",
    ],
)
def test_what_git_could_take_for_something_else_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_repository(address)


@pytest.mark.parametrize(
    ("query", "submodules", "keep_git"),
    [("", True, False), ("submodules=false", False, False), ("submodules=1", True, False),
     ("keep-git-dir", True, True), ("keep-git-dir=0&submodules=f", False, False)],
)  # fmt: skip
def test_queries_say_what_comes_along(query: str, submodules: bool, keep_git: bool) -> None:
    found = parse_repository(f"https://host/x.git?{query}")
    assert (found.submodules, found.keep_git) == (submodules, keep_git)


@pytest.mark.parametrize("query", ["submodules=x", "keep-git-dir=2", "mtime=x"])
def test_values_that_say_nothing_are_refused(query: str) -> None:
    with pytest.raises(InvalidArgument, match=f"invalid {query.partition('=')[0]} value"):
        parse_repository(f"https://host/x.git?{query}")


def test_a_commit_may_be_checked() -> None:
    assert parse_repository("https://host/x.git?commit=1234567").checksum == "1234567"
