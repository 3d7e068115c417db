"""Fixtures of tests that need root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box import Box


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A busybox root file system; what it started is ended afterwards."""
    box = Box.make(tmp_path)
    yield box
    box.close()
