"""Events outlast the process, and a file that takes nothing keeps nobody waiting."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.registry.observability import outbox as module
from sampan.registry.observability.outbox import Outbox


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with contextlib.closing(Outbox(tmp_path / "outbox.db")) as found:
        yield found


def fill(outbox: Outbox) -> None:
    """Have the file take nothing more, as on a full disk."""
    (pages,) = outbox._database.execute("PRAGMA page_count").fetchone()
    outbox._database.execute(f"PRAGMA max_page_count = {pages}")
    with contextlib.suppress(Exception):
        while True:
            outbox._database.execute("INSERT INTO events (endpoint, body) VALUES ('ballast', '')")


def make_room(outbox: Outbox) -> None:
    outbox._database.execute("PRAGMA max_page_count = 100000")


def told(outbox: Outbox, endpoint: str) -> list[bytes]:
    """Tell all that waits."""
    found = []
    while event := outbox.first(endpoint):
        found.append(event[1])
        outbox.done(endpoint, event[0])
    return found


def test_events_are_told_in_order_from_file_and_memory(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    big = b"x" * 5000
    outbox.add(["a", "b"], b"first")
    fill(outbox)
    for event in (b"second" + big, b"third" + big):
        outbox.add(["a"], event)
    outbox.add(["b"], b"fourth" + big)
    assert outbox.waiting("a") == 3
    assert [event[:6] for event in told(outbox, "a")] == [b"first", b"second", b"third" + b"x"]
    assert [event[:6] for event in told(outbox, "b")] == [b"first", b"fourth"]
    assert (outbox.waiting("a"), outbox.waiting("b")) == (0, 0)
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "events wait in memory" in errors[0].message


def test_what_waits_in_memory_is_written_down_when_there_is_room(tmp_path: Path) -> None:
    with contextlib.closing(Outbox(tmp_path / "outbox.db")) as outbox:
        fill(outbox)
        outbox.add(["a"], b"one" + bytes(5000))
        outbox.add(["a"], b"two" + bytes(5000))
        make_room(outbox)
        outbox.add(["a"], b"three")
        assert not outbox._late
    with contextlib.closing(Outbox(tmp_path / "outbox.db")) as outbox:
        assert [event[:3] for event in told(outbox, "a")] == [b"one", b"two", b"thr"]


def test_an_end_writes_down_what_it_can(tmp_path: Path) -> None:
    with contextlib.closing(Outbox(tmp_path / "outbox.db")) as outbox:
        fill(outbox)
        outbox.add(["a"], b"one" + bytes(5000))
        make_room(outbox)
    with contextlib.closing(Outbox(tmp_path / "outbox.db")) as outbox:
        assert outbox.waiting("a") == 1


def test_memory_is_bounded_and_what_is_lost_is_told(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MEMORY", 20_000)
    fill(outbox)
    for number in range(9):
        outbox.add(["a"], b"%d" % number + bytes(5000))
    assert [event[:1] for event in told(outbox, "a")] == [b"6", b"7", b"8"]
    assert "the oldest are given up" in caplog.text
    outbox.add(["a"], b"9" + bytes(5000))
    make_room(outbox)
    with caplog.at_level(logging.INFO):
        assert outbox.waiting("a") == 1
        assert len(told(outbox, "a")) == 1
    assert "6 are lost" in caplog.text


def test_what_was_told_is_not_told_again_though_it_cannot_be_removed(outbox: Outbox) -> None:
    for event in (b"one", b"two"):
        outbox.add(["a"], event)
    outbox._database.execute("PRAGMA query_only = 1")
    assert told(outbox, "a") == [b"one", b"two"]
    assert outbox.waiting("a") == 0
    outbox._database.execute("PRAGMA query_only = 0")
    outbox.add(["a"], b"three")
    assert told(outbox, "a") == [b"three"]
    assert outbox._database.execute("SELECT count(*) FROM events").fetchone() == (0,)
