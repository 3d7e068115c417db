"""Taking layers into the content store."""

from __future__ import annotations

import bz2
import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from sampan.errors import InvalidArgument
from sampan.storage.content import ContentStore
from sampan.storage.intake import plain_layer, region, take_in
from tests.tarballs import digest, memory_file

LAYER = b"layer" * 5000


@pytest.mark.parametrize(
    ("compress", "media_type", "kept"),
    [
        (bytes, "gzip", False),
        (bz2.compress, "gzip", False),
        (gzip.compress, "gzip", True),
        (zstandard.compress, "zstd", True),
    ],
)
def test_a_layer_is_stored_compressed_and_known_by_its_plain_digest(
    tmp_path: Path, compress: Callable[[bytes], bytes], media_type: str, kept: bool
) -> None:
    store, packed = ContentStore(tmp_path), compress(LAYER)
    layer = take_in(store, io.BytesIO(packed).read)
    assert (layer.diff_id, layer.plain_size) == (digest(LAYER), len(LAYER))
    assert layer.media_type.endswith(f"+{media_type}")
    assert layer.blob_size == store.size(layer.blob) < len(LAYER)
    assert (layer.blob == digest(packed)) == kept
    assert b"".join(plain_layer(store, layer.blob)) == LAYER


def test_the_same_plain_layer_gives_the_same_blob(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    assert take_in(store, io.BytesIO(LAYER).read) == take_in(store, io.BytesIO(LAYER).read)


def test_a_broken_layer_leaves_nothing(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    with pytest.raises(InvalidArgument):
        take_in(store, io.BytesIO(gzip.compress(LAYER)[:-20]).read)
    assert list(store) == []


def test_a_part_of_a_file_is_read_without_moving_in_it() -> None:
    fd = memory_file(b"0123456789")
    seen: list[int] = []
    read = region(fd, 2, 5, seen.append)
    assert [read(3), read(3), read(3)] == [b"234", b"56", b""]
    assert seen == [3, 2, 0]
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    os.close(fd)
