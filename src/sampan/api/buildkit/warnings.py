"""What BuildKit's checks find, as its clients want to hear of it.

Source: buildkit frontend/subrequests/lint/lint.go (the answer of `docker build --check`),
api/services/control/control.proto (VertexWarning).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sampan.api.buildkit.progress import Vertex
from sampan.build.built import Recipe
from sampan.build.dockerfiles.linting import Violation
from sampan.spec.buildkit import control_pb2 as pb
from sampan.spec.buildkit import solver_pb2

_VERSION: Final = b"1.0.0"  # of the answer's form
_LANGUAGE: Final = "Dockerfile"


def warnings(
    vertex: Vertex, recipe: Recipe, violations: Sequence[Violation]
) -> Sequence[pb.VertexWarning]:
    """Return what is told of a build that goes on all the same."""
    info = solver_pb2.SourceInfo(filename=recipe.name, data=recipe.shown, language=_LANGUAGE)
    return [
        pb.VertexWarning(
            vertex=vertex.digest,
            level=1,
            short=str(one).encode(),
            url=one.url,
            info=info,
            ranges=[
                solver_pb2.Range(
                    start=solver_pb2.Position(line=one.first),
                    end=solver_pb2.Position(line=one.last),
                )
            ],
        )
        for one in violations
    ]


def answer(recipe: Recipe, violations: Sequence[Violation]) -> Mapping[str, bytes]:
    """Return the metadata that answer `docker build --check`."""
    document: dict[str, Any] = {
        "warnings": [
            {
                "ruleName": one.rule,
                "url": one.url,
                "detail": one.message,
                "location": {"ranges": [{"start": {"line": one.first}, "end": {"line": one.last}}]},
            }
            for one in violations
        ],
        "sources": [
            {
                "filename": recipe.name,
                "language": _LANGUAGE,
                "data": base64.b64encode(recipe.shown).decode(),
            }
        ],
    }
    return {
        "result.json": json.dumps(document, indent=2).encode(),
        "result.txt": "".join(f"{one}\n" for one in violations).encode(),
        "result.statuscode": b"1" if violations else b"0",
        "version": _VERSION,
    }
