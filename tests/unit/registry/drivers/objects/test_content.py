"""Contents are read in one stream, in any order, and on from where they broke."""

from __future__ import annotations

import pytest

from sampan.registry.drivers.objects.bucket import Entry
from sampan.registry.drivers.objects.content import ObjectContent
from tests.memory_bucket import MemoryBucket


def _content(bucket: MemoryBucket) -> ObjectContent:
    return ObjectContent(bucket, [bucket.keep("a", b"01234"), bucket.keep("b", b"56789")])


def test_parts_are_one_file() -> None:
    bucket = MemoryBucket()
    with _content(bucket) as content:
        assert content.size == 10
        assert (content.read(0, 2), content.read(2, 99), content.read(5, 99)) == (
            *(b"01", b"234", b"56789"),
        )
        assert bucket.reads == 2  # one for each part
        assert content.read(3, 1) == b"3"
        assert content.read(10, 1) == b""


def test_what_breaks_is_begun_anew_a_few_times() -> None:
    bucket = MemoryBucket()
    with _content(bucket) as content:
        assert content.read(0, 2) == b"01"
        bucket.fails = 2
        assert content.read(2, 2) == b"23"
        bucket.fails = 3
        with pytest.raises(OSError, match="away"):
            content.read(4, 1)


def test_an_object_that_is_shorter_than_it_was_is_no_end() -> None:
    bucket = MemoryBucket()
    bucket.keep("a", b"0123")
    with ObjectContent(bucket, [Entry("a", 5)]) as content:
        assert content.read(0, 5) == b"0123"
        with pytest.raises(OSError, match="ends 1 bytes before"):
            content.read(4, 5)
