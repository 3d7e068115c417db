"""Fixtures for every kind of test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs root when the tests do not run as root."""
    if os.geteuid() == 0:
        return
    reason = pytest.mark.skip(reason="needs root: namespaces, mounts and cgroups")
    for item in items:
        if item.get_closest_marker("privileged"):
            item.add_marker(reason)


@pytest.fixture(scope="session")
def shared_daemon() -> Iterator[Daemon]:
    """One daemon for the whole session; use `daemon`, which tidies up after each test."""
    with running() as daemon:
        yield daemon


@pytest.fixture
def daemon(shared_daemon: Daemon) -> Iterator[Daemon]:
    """A running daemon without containers."""
    shared_daemon.import_image()
    yield shared_daemon
    shared_daemon.remove_containers()
