"""Layers changed on their way: whiteouts, links, places of mounts."""

from __future__ import annotations

import os
import tempfile

import pytest

from sampan.build.files.rewriting import Rewriting, Squashing
from sampan.build.files.tree import Spool
from tests import tarballs


def through(change: Rewriting | Squashing, *layers: bytes) -> bytes:
    """Return what becomes of layers."""
    for layer in layers:
        fd = tarballs.memory_file(layer)
        change.read(fd)
        os.close(fd)
    with tempfile.TemporaryFile() as out:
        change.write(out.fileno())
        out.seek(0)
        return out.read()


@pytest.fixture
def spool() -> Spool:
    return Spool(os.memfd_create("spool"))


def test_places_of_mounts_go_if_nothing_is_in_them(spool: Spool) -> None:
    layer = tarballs.archive(
        tarballs.folder("a"),
        tarballs.file("a/mount"),
        tarballs.folder("b"),
        tarballs.folder("b/mount"),
        tarballs.file("b/kept", b"1"),
        tarballs.file("c", b"written"),
    )
    places = [b"a", b"a/mount", b"b", b"b/mount", b"c", b"not/there"]
    assert tarballs.names(through(Rewriting(spool, places, None), layer)) == ["b", "b/kept", "c"]
    spool.close()


def test_whiteouts_and_hard_links_stay(spool: Spool) -> None:
    layer = tarballs.archive(
        tarballs.file("a", b"1"), tarballs.hardlink("b", "a"), tarballs.file("d/.wh.x")
    )
    written = through(Rewriting(spool, [], 0), layer)
    assert tarballs.names(written) == ["a", "b", "d", "d/.wh.x"]
    assert written.count(b"1" + bytes(511)) == 1
    spool.close()


def test_layers_are_put_on_each_other(spool: Spool) -> None:
    layers = [
        tarballs.archive(tarballs.file("d/a", b"1"), tarballs.file("d/b"), tarballs.file("e/f")),
        tarballs.archive(tarballs.file("d/.wh.a"), tarballs.file("d/c"), tarballs.file(".wh.old")),
        tarballs.archive(tarballs.file("e/.wh..wh..opq"), tarballs.file("e/g")),
        tarballs.archive(tarballs.file("d/a", b"2")),
    ]
    assert tarballs.names(through(Squashing(spool), *layers)) == [
        ".wh.old", "d", "d/a", "d/b", "d/c", "e", "e/.wh..wh..opq", "e/g",
    ]  # fmt: skip
    spool.close()
