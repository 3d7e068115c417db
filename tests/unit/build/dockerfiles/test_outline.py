"""What can be asked about a Dockerfile."""

from __future__ import annotations

import asyncio
from typing import Any

from sampan.build.built import Recipe
from sampan.build.dockerfiles.outline import Outline, Target
from sampan.build.files.tree import Spool, Tree
from sampan.spec.build import BuildOptions
from tests.build_worker import Yard

TEXT = b"""# syntax=docker/dockerfile:1
# check=skip=all
# A is the first
ARG A=1
ARG B=$A
ARG UNUSED=x
# first is where it begins
FROM box:$B AS first
# C is nothing

# D is
# something

# of a stage
ARG C
#
ARG D=$C
ARG A
RUN --mount=type=secret,id=s,required=true --mount=type=ssh,id=agent true

FROM box AS other
ARG E=5
RUN --mount=type=secret,target=/run/t true
FROM first
RUN --mount=type=ssh true
"""


def asked(content: bytes, **options: Any) -> Outline:
    yard = Yard()

    async def main() -> Outline:
        spool = Spool(yard.builder.scratch())
        try:
            recipe = Recipe(content, "Dockerfile")
            return await yard.builder.outline(BuildOptions(**options), recipe, Tree(spool))
        finally:
            spool.close()

    return asyncio.run(main())


def test_a_target_takes_what_its_stages_take() -> None:
    found = asked(TEXT, arguments={"D": "given"})
    assert (found.name, found.description) == ("", "")
    assert [(one.name, one.value, one.description) for one in found.arguments] == [
        ("A", "1", "is the first"),
        ("B", "1", ""),
        ("C", "", "is nothing"),
        ("D", "given", ""),
    ]
    assert [(one.name, one.required) for one in found.secrets] == [("s", True)]
    assert [one.name for one in found.ssh] == ["agent", "default"]


def test_a_target_has_the_comment_above_it() -> None:
    found = asked(TEXT, target="first")
    assert (found.name, found.description) == ("first", "is where it begins")
    other = asked(TEXT, target="other")
    assert [one.name for one in other.arguments] == ["E"]
    assert [one.name for one in other.secrets] == ["t"]


def test_targets_are_all_stages() -> None:
    yard = Yard()
    found = asyncio.run(yard.builder.targets(Recipe(TEXT, "Dockerfile")))
    assert [(one.name, one.base, one.is_default) for one in found] == [
        ("first", "box:$B", False),
        ("other", "box", False),
        ("", "first", True),
    ]
    assert isinstance(found[0], Target)
    assert found[0].description == "is where it begins"
