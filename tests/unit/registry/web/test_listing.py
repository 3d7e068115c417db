"""Lists with what is worth knowing of each row."""

from __future__ import annotations

import pytest

from sampan.registry.errors import RegistryError
from sampan.registry.web import listing
from tests.own_registry import Shop, manifest, sha


def test_a_tag_tells_its_size_and_what_is_attached(shop: Shop) -> None:
    digest = shop.push("app", "1", [b"one", b"three"])
    subject = {"mediaType": "a/b", "digest": digest, "size": 1}
    body = manifest([], [], subject=subject, artifactType="text/sbom")
    assert shop.put("app", sha(body), body).status == 201
    (row,) = listing.tags(shop.registry.metadata, "app", "", "").rows
    assert (row.name, row.digest, row.size, row.referrers) == ("1", digest, 10, 1)


def test_pages_follow_one_another(shop: Shop) -> None:
    shop.push("app", "t000")
    body = shop.get("/v2/app/manifests/t000").body
    for number in range(1, 103):
        shop.put("app", f"t{number:03}", body)
    found, last = [], ""
    for expected in (50, 50, 3):
        page = listing.tags(shop.registry.metadata, "app", "t", last)
        assert len(page.rows) == expected
        found += [row.name for row in page.rows]
        last = page.last
    assert (found, last) == ([f"t{number:03}" for number in range(103)], "")


def test_a_repository_that_is_not_there_is_told(shop: Shop) -> None:
    with pytest.raises(RegistryError, match="NAME_UNKNOWN"):
        listing.tags(shop.registry.metadata, "none", "", "")
