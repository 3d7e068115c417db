"""What layers of copies are made of."""

from __future__ import annotations

import os
import tarfile
from dataclasses import replace

from sampan.build.files.layer import Item, digest_items, write_layer
from sampan.build.files.tree import File
from sampan.storage.archives.tar_fields import REGULAR


def test_times_that_differ_between_storage_drivers_are_the_epochs() -> None:
    items = [
        Item(b"a/.wh.b", File(REGULAR, mtime=1)), Item(b"a/c", File(REGULAR, mtime=10**9)),
        Item(b"a/d", File(REGULAR, mtime=10**12)),
    ]  # fmt: skip
    fd = os.memfd_create("layer")
    write_layer(items, fd, 500, whiteouts=True)
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(fd, "rb") as file, tarfile.open(fileobj=file) as opened:
        assert {one.name: one.mtime for one in opened} == {"a/.wh.b": 500, "a/c": 1, "a/d": 500}


def test_where_the_holes_of_a_file_are_is_part_of_its_digest() -> None:
    early = File(REGULAR, size=100, stored=1, digest=b"x" * 32, sparse=[(0, 1)])
    late = replace(early, sparse=[(99, 1)])
    digests = {digest_items([Item(b"f", file)]) for file in (early, late, replace(early))}
    assert len(digests) == 2
