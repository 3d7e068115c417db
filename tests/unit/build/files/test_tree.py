"""Archives as trees: names, links, hostile members."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.files.tree import Spool, Tree, walk
from sampan.errors import InvalidArgument, NotFound
from tests import tarballs


@pytest.fixture
def tree() -> Iterator[Tree]:
    spool = Spool(os.memfd_create("spool"))
    yield Tree(spool)
    spool.close()


def read(tree: Tree, *members: bytes) -> Tree:
    tree.read([tarballs.archive(*members)])
    return tree


def paths(tree: Tree) -> list[str]:
    return [path.decode() for path, _ in walk(tree.root)]


def test_contents_are_found_by_their_paths(tree: Tree) -> None:
    read(tree, tarballs.file("a/b", b"one"), tarballs.file("./c", b"two"), tarballs.folder("/d"))
    assert paths(tree) == ["a", "a/b", "c", "d"]
    assert tree.spool.read(tree.find(b"a/b")) == b"one"
    assert tree.spool.read(tree.find(b"/c")) == b"two"
    assert b"".join(tree.spool.pieces(tree.find(b"c"))) == b"two"


def test_the_last_of_a_name_counts(tree: Tree) -> None:
    read(
        tree,
        tarballs.file("a", b"1"),
        tarballs.file("a", b"2"),
        tarballs.file("f/x"),
        tarballs.folder("f", mode=0o700),
        tarballs.file("g"),
        tarballs.file("g/h"),
        tarballs.symlink("l", "f"),
        tarballs.file("l/m"),
    )
    assert tree.spool.read(tree.find(b"a")) == b"2"
    assert paths(tree) == ["a", "f", "f/x", "g", "g/h", "l", "l/m"]
    assert tree.find(b"f").mode == 0o700


def test_links_are_followed_inside_of_the_tree(tree: Tree) -> None:
    read(
        tree,
        tarballs.file("d/f", b"1"),
        tarballs.symlink("relative", "d"),
        tarballs.symlink("absolute", "/d/f"),
        tarballs.symlink("d/up", "../../../../d"),
        tarballs.hardlink("hard", "d/f"),
    )
    for path in (b"relative/f", b"absolute", b"d/up/f", b"d/up/up/f", b"hard", b"../../d/f"):
        assert tree.spool.read(tree.find(path)) == b"1", path
    assert tree.locate(b"relative/up/f")[0] == b"d/f"


@pytest.mark.parametrize("path", [b"x", b"d/x", b"d/f/x", b"loop", b"dangling", b"out"])
def test_what_is_not_there_is_not_found(tree: Tree, path: bytes) -> None:
    read(
        tree,
        tarballs.file("d/f"),
        tarballs.symlink("loop", "loop"),
        tarballs.symlink("dangling", "nothing"),
        tarballs.symlink("out", "../../etc/passwd"),
    )
    with pytest.raises(NotFound):
        tree.find(path)


@pytest.mark.parametrize(
    "member",
    [
        tarballs.file("../x"),
        tarballs.file("a/../../x"),
        tarballs.hardlink("x", "nothing"),
        tarballs.hardlink("x", "../../etc/passwd"),
        tarballs.file("x" + "/y" * 49) + tarballs.raw(b"z", size=b"77777777777"),
    ],
)
def test_what_cannot_be_is_refused(tree: Tree, member: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read(tree, member)


NAMES = st.text(alphabet="ab./", min_size=1, max_size=8)
MEMBERS = st.one_of(
    st.builds(tarballs.file, NAMES, st.binary(max_size=5)),
    st.builds(tarballs.folder, NAMES),
    st.builds(tarballs.symlink, NAMES, NAMES),
    st.builds(tarballs.hardlink, NAMES, NAMES),
)


@given(st.lists(MEMBERS, max_size=8), NAMES)
def test_no_archive_raises_anything_but_errors_of_ours(members: list[bytes], path: str) -> None:
    spool = Spool(os.memfd_create("spool"))
    try:
        tree = read(Tree(spool), *members)
        for found, file in walk(tree.root):
            assert not found.startswith(b"/")
            assert b".." not in found.split(b"/")
            assert file.is_folder or not file.children
        tree.find(path.encode())
    except (InvalidArgument, NotFound):
        pass
    finally:
        spool.close()
