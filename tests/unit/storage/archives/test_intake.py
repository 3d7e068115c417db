"""Reading parts of files."""

from __future__ import annotations

import os
from pathlib import Path

from sampan.storage.archives.intake import chunks_of, region, whole


def test_a_region_is_read_and_nothing_around_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"beforeINSIDEafter")
    counted: list[int] = []
    fd = os.open(path, os.O_RDONLY)
    try:
        read = region(fd, 6, 6, counted.append)
        assert (read(4), read(4), read(4)) == (b"INSI", b"DE", b"")
        assert sum(counted) == 6
        assert b"".join(chunks_of(whole(fd))) == b"beforeINSIDEafter"
    finally:
        os.close(fd)
