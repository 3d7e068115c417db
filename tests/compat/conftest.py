"""What several tests with real clients need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.netns import named

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A network namespace with a loopback interface."""
    with named() as name:
        yield name


@pytest.fixture(scope="module")
def browser(namespace: str) -> Iterator[Browser]:
    """Debian's chromium, in that namespace."""
    from tests.browser import chromium  # slow to import, and few need it

    with chromium(namespace) as found:
        yield found
