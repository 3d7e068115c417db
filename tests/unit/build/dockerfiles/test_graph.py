"""Which stages a target needs."""

from __future__ import annotations

import pytest

from sampan.build.dockerfiles.dockerfile import parse_dockerfile
from sampan.build.dockerfiles.graph import plan
from sampan.errors import InvalidArgument

TEXT = b"""FROM box AS base
RUN x
FROM base AS one
RUN y
FROM box AS two
COPY --from=one /a /b
FROM box AS three
RUN --mount=type=bind,from=base,target=/m z
FROM $TOP AS four
COPY --from=0 /a /b
COPY --from=busybox /a /b
"""


@pytest.mark.parametrize(
    ("target", "needed", "steps"),
    [
        ("base", ["base"], 2),
        ("one", ["base", "one"], 4),
        ("two", ["base", "one", "two"], 6),
        ("three", ["base", "three"], 4),
        ("four", ["base", "two", "one", "four"], 9),
        ("2", ["base", "one", "two"], 6),
    ],
)
def test_only_what_the_target_needs_is_planned(target: str, needed: list[str], steps: int) -> None:
    dockerfile = parse_dockerfile(TEXT)
    found = plan(dockerfile, dockerfile.target(target), {"TOP": "two"})
    assert sorted(one.stage.name for one in found.stages) == sorted(needed)
    assert [one.stage.number for one in found.stages] == sorted(
        one.stage.number for one in found.stages
    )
    assert found.steps == steps
    assert found.stages[0].first == 1


def test_a_number_is_the_name_of_an_image_in_from() -> None:
    dockerfile = parse_dockerfile(b"FROM box\nFROM 0")
    assert plan(dockerfile, dockerfile.target(""), {}).stages[0].below is None


@pytest.mark.parametrize(
    "text",
    ["FROM a AS x\nCOPY --from=x b c", "FROM a\nCOPY --from=y b c\nFROM d AS y\nFROM 0",
     "FROM a AS x\nRUN --mount=from=x,target=/b c"],
)  # fmt: skip
def test_circles_are_refused(text: str) -> None:
    dockerfile = parse_dockerfile(text.encode())
    with pytest.raises(InvalidArgument, match="circular dependency detected on stage: "):
        plan(dockerfile, dockerfile.stages[0], {})
