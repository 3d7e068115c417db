"""What layers of copies are made of."""

from __future__ import annotations

from dataclasses import replace

from sampan.build.layer import Item, digest_items
from sampan.build.tree import File
from sampan.storage.tar_fields import REGULAR


def test_where_the_holes_of_a_file_are_is_part_of_its_digest() -> None:
    early = File(REGULAR, size=100, stored=1, digest=b"x" * 32, sparse=[(0, 1)])
    late = replace(early, sparse=[(99, 1)])
    digests = {digest_items([Item(b"f", file)]) for file in (early, late, replace(early))}
    assert len(digests) == 2
