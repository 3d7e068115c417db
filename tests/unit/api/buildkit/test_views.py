"""Files of sources that clients look at."""

from __future__ import annotations

import os

import pytest

from sampan.api.buildkit.views import View
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.buildkit.gateway_pb2 import FileRange


def test_files_are_read_whole_and_in_parts() -> None:
    view = View.empty(os.memfd_create("view"))
    view.tree.write(b"a/file", b"0123456789", mode=0o640)
    try:
        assert view.read("a/file", FileRange()) == b"0123456789"
        assert view.read("/a/file", FileRange(Offset=2, Length=3)) == b"234"
        assert view.read("a/file", FileRange(Offset=50)) == b""
        assert view.read("a/file", FileRange(Offset=-5, Length=-1)) == b"0123456789"
        stat = view.stat("a/file")
        assert (stat.size, stat.mode & 0o777) == (10, 0o640)
        with pytest.raises(NotFound, match="lstat b: no such file or directory"):
            view.stat("b")
        with pytest.raises(InvalidArgument, match="a is no regular file"):
            view.read("a", FileRange())
    finally:
        view.close()


def test_a_large_file_is_not_given_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sampan.api.buildkit.views._LARGEST", 4)
    view = View.empty(os.memfd_create("view"))
    view.tree.write(b"file", b"12345")
    try:
        assert view.read("file", FileRange(Length=4)) == b"1234"
        with pytest.raises(InvalidArgument, match="has more than 4 bytes"):
            view.read("file", FileRange())
    finally:
        view.close()
