"""Becoming the daemon's program, for what needs no running daemon."""

from __future__ import annotations

import os
import sys

from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

NAME = "sampand"


def become(arguments: Sequence[str]) -> NoReturn:
    """Execute it in place of this program."""
    import shutil

    program = os.path.join(os.path.dirname(sys.executable), NAME)
    found = program if os.access(program, os.X_OK) else shutil.which(NAME)
    if not found:
        raise Exit(1, f"the program {NAME} is not installed")
    sys.stdout.flush()
    os.execv(found, [found, *arguments])  # noqa: S606 - no shell is what is wanted
