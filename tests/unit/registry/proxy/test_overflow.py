"""What no disk takes waits in memory, and not much of it, until all who read have it."""

from __future__ import annotations

import io
import threading

import pytest

from sampan.registry.proxy import overflow
from sampan.registry.proxy.overflow import Overflow, Places


class Stored(io.BytesIO):
    def read(self, offset: int | None = 0, count: int = 0) -> bytes:  # type: ignore[override]
        return self.getvalue()[offset or 0 : (offset or 0) + count]


def test_what_is_stored_and_what_waits_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overflow, "LIMIT", 4)
    places = Places()
    places.move("one", 0)
    found = Overflow(Stored(b"01234xxx"), 5, places)
    found.write(b"5678")
    assert [found.read(0, 3), found.read(3, 9), found.read(5, 3), found.read(8, 9)] == [
        *(b"012", b"34", b"567", b"8"),
    ]
    found.close()


def test_nothing_more_is_taken_until_the_slowest_has_read_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overflow, "LIMIT", 4)
    places = Places()
    places.move("fast", 0)
    places.move("slow", 0)
    found = Overflow(None, 0, places)
    found.write(b"0123")
    writer = threading.Thread(target=found.write, args=(b"4567",), daemon=True)
    writer.start()
    places.move("fast", 4)
    assert found.read(0, 4) == b"0123"
    assert writer.is_alive()
    places.move("slow", 2)
    writer.join(30)
    assert not writer.is_alive()
    assert found.read(2, 9) == b"234567"
    with pytest.raises(OSError, match="others have read on"):
        found.read(1, 1)
    writer = threading.Thread(target=found.write, args=(b"89",), daemon=True)
    writer.start()
    places.move("fast", 6)
    places.leave("slow")  # it has gone, so nobody waits for it
    writer.join(30)
    assert not writer.is_alive()
    assert found.read(6, 9) == b"6789"


def test_without_readers_a_full_disk_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overflow, "LIMIT", 4)
    found = Overflow(None, 0, Places())
    found.write(b"0123")
    with pytest.raises(OSError, match="nobody reads"):
        found.write(b"4")
