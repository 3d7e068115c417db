"""Hands a command line over to the program of the registry, which this process becomes."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MODULE = "sampan.registryd.main"


def become(command: str, *arguments: str) -> NoReturn:
    """Run the registry's program with this interpreter; signals reach it and not us."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", MODULE, command, *arguments])  # noqa: S606
