"""What BuildKit's checks find in a Dockerfile, written so that it can be compared with a table."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

from sampan.build.built import Recipe
from sampan.build.files.tree import Spool, Tree
from sampan.errors import InvalidArgument
from sampan.spec.build import BuildOptions
from tests.build_worker import Yard

_PLACE = re.compile("dockerfile parse error on line [0-9]+: ")


def checked(text: str, ignored: Sequence[str] = ()) -> list[Any] | str:
    """Return rules, messages and lines, sorted; the message if the file is refused."""
    return asyncio.run(_checked(text, ignored))


async def _checked(text: str, ignored: Sequence[str]) -> list[Any] | str:
    yard = Yard()
    for name in "abcd":
        yard.worker.have(name, env=["PATH=/bin"])
    tree = Tree(Spool(yard.worker.scratch()))
    try:
        found = await yard.builder.check(
            BuildOptions(), Recipe(text.encode(), "Dockerfile", ignored), tree
        )
    except InvalidArgument as error:
        return _PLACE.sub("", str(error).partition("\n")[0])
    finally:
        tree.spool.close()
    return sorted([one.rule, one.message, [one.first, one.last]] for one in found)
