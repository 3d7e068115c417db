"""An upstream that lies when it is told to, and a cache before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.registry.proxy import cached, transfers, upstreams
from tests.asking import LIMITS
from tests.caching import Cache, caching
from tests.lying_registry import LyingRegistry, lying_registry
from tests.session import PATIENCE


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is slow on a busy machine is no failure; see `impatient`.
    monkeypatch.setattr(transfers, "STORING_SECONDS", PATIENCE)
    monkeypatch.setattr(upstreams, "BACKOFF", 0.001)
    monkeypatch.setattr(cached, "DOWN_SECONDS", 0.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that says nothing has failed after a moment."""
    monkeypatch.setattr(upstreams, "LIMITS", LIMITS)


@pytest.fixture
def liar() -> Iterator[LyingRegistry]:
    with lying_registry() as found:
        yield found


@pytest.fixture
def cache(liar: LyingRegistry, tmp_path: Path) -> Iterator[Cache]:
    with caching(liar, root=tmp_path / "data") as found:
        yield found


@pytest.fixture(params=["inmemory", "filesystem"])
def any_cache(
    liar: LyingRegistry, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Cache]:
    """A cache on each kind of storage: one that gives back what is being written, and one not."""
    root = tmp_path / "data" if request.param == "filesystem" else None
    with caching(liar, root=root) as found:
        yield found
