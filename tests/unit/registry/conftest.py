"""A registry in memory with its application, and one on files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.registry.registry import Registry
from tests.own_registry import Shop, serving


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Registry.in_memory() as registry, serving(registry) as found:
        yield found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Shop]:
    with Registry.on_filesystem(str(tmp_path / "data")) as registry, serving(registry) as found:
        yield found
