"""Addresses of git repositories."""

from __future__ import annotations

import pytest

from sampan.build.git import is_repository, parse_repository
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
    ],
)
def test_what_git_could_take_for_something_else_is_refused(address: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_repository(address)
