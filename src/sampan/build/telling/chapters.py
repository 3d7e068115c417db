"""The stages and steps of a build as BuildKit counts them: those that change files.

Source: buildkit frontend/dockerfile/dockerfile2llb/convert.go (prefixCommand, cmdTotal, stageName).
"""

from __future__ import annotations

from typing import Final

from sampan.build.dockerfiles.dockerfile import Dockerfile
from sampan.build.dockerfiles.graph import Needed
from sampan.build.instructions import model
from sampan.build.telling.display import Chapter
from sampan.errors import InvalidArgument
from sampan.http.urls import redacted_text
from sampan.spec.reference import Reference

SCRATCH: Final = "scratch"
_WORKS: Final = (model.Run, model.Copy, model.Workdir)


def chapter_of(dockerfile: Dockerfile, needed: Needed) -> Chapter:
    """Return how a stage is called, and how many of its steps count."""
    stage = needed.stage
    works = sum(isinstance(it, _WORKS) for it in stage.instructions)
    alone = len(dockerfile.stages) == 1
    name = "" if alone else stage.begin.name or f"stage-{stage.number}"
    return Chapter(name, works + bool(base_of(needed)))


def text_of(it: model.Instruction) -> str:
    """Return a step as its Dockerfile has it, without the passwords of what it fetches."""
    return redacted_text(it.place.text) if isinstance(it, model.Copy) else it.place.text


def work_of(it: model.Instruction) -> str:
    """Return how a step is called; "" if it does not count."""
    return text_of(it) if isinstance(it, _WORKS) else ""


def base_of(needed: Needed) -> str:
    """Return how the image is called that a stage begins with; "" if it begins with none."""
    if needed.below is not None or needed.image == SCRATCH:
        return ""
    try:
        return f"FROM {Reference.parse(needed.image).with_default_tag()}"
    except InvalidArgument:
        return f"FROM {needed.image}"
