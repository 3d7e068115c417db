"""The log of a helper that outlives the daemon."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.helpers import logging as helper_logging
from sampan.helpers.logging import CappedFileHandler


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[logging.Logger]:
    logger = logging.getLogger("test.capped")
    handler = CappedFileHandler(tmp_path / "log")
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    handler.close()


def test_records_are_appended(logger: logging.Logger, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    logger.warning("after %d", 1)
    assert (tmp_path / "log").read_text() == "before\nafter 1\n"


def test_the_file_cannot_grow_without_end(
    logger: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_logging, "MAX_BYTES", 1000)
    for number in range(500):
        logger.warning("line %d", number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert all(path.stat().st_size < 1100 for path in tmp_path.iterdir())
    assert (tmp_path / "log").read_text().splitlines()[-1] == "line 499"


def test_two_processes_share_the_file(logger: logging.Logger, tmp_path: Path) -> None:
    second = CappedFileHandler(tmp_path / "log")
    logger.addHandler(second)
    logger.warning("once")
    (tmp_path / "log").rename(tmp_path / "moved")
    logger.warning("twice")
    logger.removeHandler(second)
    second.close()
    assert (tmp_path / "moved").read_text() == "once\nonce\ntwice\ntwice\n"


def test_nowhere_to_write_is_no_error(tmp_path: Path) -> None:
    handler = CappedFileHandler(tmp_path / "missing" / "log")
    handler.emit(logging.makeLogRecord({"msg": "lost"}))
    handler.close()
    assert list(tmp_path.iterdir()) == []
