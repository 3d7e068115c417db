from __future__ import annotations

import json
import os

import pytest

from sampan.build.attesting.scanning import statements_in
from sampan.build.files.tree import Spool, Tree
from sampan.errors import InvalidArgument
from tests import tarballs

SPDX = "https://spdx.dev/Document"


def written(*members: bytes) -> Tree:
    tree = Tree(Spool(os.memfd_create("spool")))
    tree.read([tarballs.archive(*members)])
    return tree


def statement(name: str, **fields: object) -> bytes:
    content = json.dumps({"predicateType": SPDX, "predicate": {}} | fields).encode()
    return tarballs.file(f"run/out/{name}", content)


def test_the_core_statement_comes_first() -> None:
    own = [{"name": "x", "digest": {"sha256": "a"}}]
    tree = written(
        statement("a.json", predicate={"n": 1}, subject=own), statement("sbom.spdx.json"),
        statement("z.json", subject=[]),
    )  # fmt: skip
    found = statements_in(tree)
    tree.spool.close()
    assert [one.filename for one in found] == ["sbom.spdx.json", "a.json", "z.json"]
    assert bytes(found[1].predicate) == b'{"n": 1}'
    assert [list(one.subjects) for one in found] == [[], own, []]


def test_a_generator_may_say_nothing() -> None:
    tree = written()
    assert statements_in(tree) == []
    tree.spool.close()


@pytest.mark.parametrize(
    "member",
    [
        tarballs.file("run/out/x", b"no json"),
        tarballs.file("run/out/x", b"{} {}"),
        tarballs.file("run/out/x", b"[" * 100_000),
        tarballs.file("run/out/x", b"{}"),
        tarballs.file("run/out/folder/x", b"{}"),
        tarballs.symlink("run/out/x", "/etc/passwd"),
        statement("x", predicateType="https://slsa.dev/provenance/v1"),
        statement("x", subject="me"),
    ],
)
def test_what_is_no_statement_is_refused(member: bytes) -> None:
    tree = written(member)
    with pytest.raises(InvalidArgument):
        statements_in(tree)
    tree.spool.close()


def test_they_are_not_too_large() -> None:
    tree = written(tarballs.file("run/out/x", b" " * (40 << 20) + b"{}"))
    with pytest.raises(InvalidArgument, match="more than 41943040 bytes"):
        statements_in(tree)
    tree.spool.close()


def test_there_are_not_too_many() -> None:
    tree = written(*(statement(str(number)) for number in range(65)))
    with pytest.raises(InvalidArgument, match="more than 64 files"):
        statements_in(tree)
    tree.spool.close()
