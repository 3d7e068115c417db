"""What a generator of SBOMs looks at beside an image: other stages, and the build context.

Source: buildkit docs/attestations/sbom.md; frontend/dockerfile/dockerfile2llb/convert.go
(Dockerfile2LLB, isEnabledForStage).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sampan.build.contexts.named import Named
from sampan.build.instructions.run import SCAN_CONTEXT, SCAN_STAGE
from sampan.build.solver import Build
from sampan.build.state import State

_TRUE: Final = ("1", "t", "true")
_FALSE: Final = ("0", "f", "false")


def is_meant(stage: str, value: str) -> bool:
    """Tell whether a value, `true`, `false` or names of stages, means a stage."""
    if value.lower() in (*_TRUE, *_FALSE):
        return value.lower() in _TRUE
    return stage in value.split(",")


async def extras_of(build: Build, states: Mapping[int, State]) -> Mapping[str, Sequence[str]]:
    """Return the layers of all that is to be scanned, too, by name; `states` are those of stages.

    Nothing is made for builds of which nobody wants an SBOM.
    """
    found: dict[str, Sequence[str]] = {}
    if not build.options.scanned:
        return found
    for needed in build.plan.stages:
        stage = needed.stage
        name = stage.begin.name or f"stage-{stage.number}"
        given = {**build.arguments.top, **states[stage.number].arguments}
        is_target = stage is build.plan.target
        if is_target and is_meant(name, given.get(SCAN_CONTEXT, "")):
            named = Named("context", "")
            context = await build.contexts.layer(named, await build.context.files(), None)
            found["context"] = context.config.diff_ids
        elif not is_target and is_meant(name, given.get(SCAN_STAGE, "")):
            found[name] = states[stage.number].config.diff_ids
    return found
