"""Names of the questions that can be asked about a Dockerfile.

Source: buildkit frontend/subrequests.
"""

from __future__ import annotations

from typing import Final

from sampan.errors import Unsupported

LINT: Final = "frontend.lint"
OUTLINE: Final = "frontend.outline"
TARGETS: Final = "frontend.targets"
DESCRIBE: Final = "frontend.subrequests.describe"
QUESTIONS: Final = (LINT, OUTLINE, TARGETS, DESCRIBE)


def question_of(name: str) -> str:
    """Return the name of a question; raises Unsupported for what nobody can answer."""
    if name not in QUESTIONS:
        raise Unsupported(f"unsupported request {name}")
    return name
