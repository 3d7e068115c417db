"""Accounts in a file, with passwords that are quick to check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.registry.tokens import accounts
from sampan.registry.tokens.accounts import Accounts


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "ROUNDS", 4)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Accounts]:
    with Accounts(tmp_path / "accounts.db") as found:
        yield found
