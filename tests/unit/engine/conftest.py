"""Fixtures of several modules of tests."""

from __future__ import annotations

from tests.unit.engine.network_world import world

__all__ = ["world"]
