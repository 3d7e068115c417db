"""Engines whose blocking calls are made by the test's own thread: only that one is in a network
namespace of the test, and only a process without others may fork.
"""

from __future__ import annotations

import sys

import pytest


def block_here(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Have all modules of a package, which were imported before, call at once what may block."""

    async def here(function: object, *args: object) -> object:
        assert callable(function)
        return function(*args)

    found = [name for name in sys.modules if name.startswith(f"{package}.")]
    for name in found:
        if hasattr(sys.modules[name], "blocking"):
            monkeypatch.setattr(f"{name}.blocking", here)
    assert found, f"nothing of {package} was imported"
