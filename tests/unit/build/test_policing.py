"""How sources are called, and what only images can be."""

from __future__ import annotations

import asyncio

import pytest

from sampan.build.contexts.git import parse_repository
from sampan.build.policing import Ask, Source, check, commit, image
from sampan.errors import Unsupported
from sampan.spec.platform import Platform


@pytest.mark.parametrize(
    ("address", "identifier"),
    [
        ("https://host/a/b.git", "git://host/a/b.git"),
        ("https://name:secret@host:1/a.git#main:sub", "git://host:1/a.git#main:sub"),
        ("git@host:a/b.git#v1", "git://host/a/b.git#v1"),
        ("github.com/a/b", "git://github.com/a/b"),
        ("ssh://git@host/a.git?branch=x", "git://host/a.git#refs/heads/x"),
        ("https://host/a.git#:sub", "git://host/a.git#:sub"),
    ],
)
def test_a_commit_is_called_by_its_repository_whatever_the_scheme(
    address: str, identifier: str
) -> None:
    found = commit(parse_repository(address))
    assert found.identifier == identifier
    assert found.attributes["git.fullurl"] == parse_repository(address).url


def test_a_checksum_is_told() -> None:
    found = commit(parse_repository("https://host/a.git?checksum=1234567&keep-git-dir=1"))
    assert found.attributes["git.checksum"] == "1234567"
    assert found.attributes["git.keepgitdir"] == "true"


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("busybox", "docker-image://docker.io/library/busybox:latest"),
        ("host:5000/a:1", "docker-image://host:5000/a:1"),
        (f"a@sha256:{'a' * 64}", f"docker-image://docker.io/library/a@sha256:{'a' * 64}"),
        (f"sha256:{'a' * 64}", f"docker-image://sha256:{'a' * 64}"),
    ],
)
def test_an_image_is_called_by_its_whole_name(name: str, identifier: str) -> None:
    assert image(name) == Source(identifier)


class Other:
    async def judge(
        self, source: Source, platform: Platform | None = None, ask: Ask | None = None
    ) -> Source:
        return Source("http://other/")


def test_a_page_can_only_be_itself() -> None:
    asyncio.run(check(None, Source("http://page/")))
    with pytest.raises(Unsupported, match="puts 'http://other/' in the place of 'http://page/'"):
        asyncio.run(check(Other(), Source("http://page/")))
