"""Names of the questions that can be asked about a Dockerfile.

Source: buildkit frontend/subrequests.
"""

from __future__ import annotations

from typing import Final

LINT: Final = "frontend.lint"
OUTLINE: Final = "frontend.outline"
TARGETS: Final = "frontend.targets"
DESCRIBE: Final = "frontend.subrequests.describe"
QUESTIONS: Final = (LINT, OUTLINE, TARGETS, DESCRIBE)
