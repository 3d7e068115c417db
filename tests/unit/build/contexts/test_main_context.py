"""The context of a build comes once, and only if something needs it."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from sampan.build.built import Recipe
from sampan.build.contexts.main_context import MainContext
from sampan.build.files.tree import Spool, Tree
from sampan.build.telling.display import Display
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.build import BuildOptions
from tests import tarballs
from tests.build_worker import Yard


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.worker.have("box", tarballs.file("etc/passwd", b"root:x:0:0"))
    yard.worker.have("triggers", on_build=["COPY f /f"])
    yard.worker.pages["http://host/page"] = b"page"
    return yard


def fetches(yard: Yard, text: str, *, there: bool = True) -> int:
    """Build; return how often the context was fetched."""
    count = 0

    async def fetch(tree: Tree) -> None:
        nonlocal count
        count += 1
        await asyncio.sleep(0)
        if there:
            tree.write(b"f", b"content")
            tree.write(b"g", b"content")

    async def main() -> None:
        own, spool = (Spool(yard.worker.scratch()) for _ in range(2))
        options = BuildOptions()
        display = partial(Display, lambda _: None, options)
        recipe = Recipe(text.encode(), "Dockerfile")
        try:
            context = MainContext(Tree(own), fetch, spool)
            await yard.builder.solve(options, recipe, context, yard.client, display)
        finally:
            own.close()
            spool.close()

    asyncio.run(main())
    return count


@pytest.mark.parametrize(
    "text",
    [
        "FROM box\nRUN print a",
        "FROM box\nADD http://host/page /p",
        "FROM box AS a\nFROM box\nCOPY --from=a /etc/passwd /p",
        "FROM box\nCOPY <<E /e\nx\nE",
        "FROM box AS a\nCOPY f /f\nFROM box\nRUN print x",  # of a stage that nobody needs
        "FROM box\nRUN --mount=type=cache,target=/c print x",
    ],
)
def test_what_no_instruction_uses_is_not_fetched(yard: Yard, text: str) -> None:
    assert fetches(yard, text) == 0


@pytest.mark.parametrize(
    "text",
    [
        "FROM box\nCOPY f /f\nCOPY g /g",
        "FROM box\nADD f /f",
        "FROM box\nARG A=f\nCOPY $A /f",
        "FROM box\nRUN --mount=target=/m print x",
        "FROM triggers\nRUN print x",
        "FROM box AS a\nCOPY f /f\nFROM box\nCOPY g /g\nCOPY --from=a /f /f",
    ],
)
def test_what_is_used_is_fetched_once_for_all(yard: Yard, text: str) -> None:
    assert fetches(yard, text) == 1


def test_a_file_that_does_not_come_is_missing(yard: Yard) -> None:
    with pytest.raises(InvalidArgument, match="file not found in build context"):
        fetches(yard, "FROM box\nCOPY f /f", there=False)


def test_whoever_waits_learns_why_a_context_cannot_come(yard: Yard) -> None:
    async def fetch(_: Tree) -> None:
        raise NotFound("no access allowed to dir")

    async def main() -> None:
        spool = Spool(yard.worker.scratch())
        context = MainContext(Tree(spool), fetch)
        try:
            await context.files()
        finally:
            spool.close()

    with pytest.raises(NotFound, match="no access"):
        asyncio.run(main())
