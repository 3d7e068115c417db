"""What is sent while more is written: in order, some at once, and told when it fails."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from sampan.registry.drivers.objects.outbox import AHEAD, Outbox


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as found:
        yield found


class Storage:
    """Takes parts once it is open; refuses those at some offsets."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.asked = threading.Semaphore(0)
        self.stored: dict[int, bytes] = {}
        self.refused: set[int] = set()

    def take(self, start: int, file: BinaryIO, size: int) -> int:
        self.asked.release()
        assert self.open.wait(30)
        if start in self.refused:
            raise OSError(f"no {start}")
        self.stored[start] = file.read()
        assert len(self.stored[start]) == size
        return start


def _fill(box: Outbox[int], count: int) -> None:
    for number in range(count):
        box.write(b"%d" % (number % 10))
        box.send()


def test_parts_are_sent_while_more_is_written(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    storage = Storage()
    box = Outbox(storage.take, threads, str(tmp_path), 0)
    _fill(box, AHEAD)
    for _ in range(AHEAD):  # all at once, and nothing waits for them
        assert storage.asked.acquire(timeout=30)
    box.write(b"the next")
    assert box.done == []
    assert os.listdir(tmp_path) == []  # no names, so nothing is left by a kill
    late = threading.Thread(target=box.send)
    late.start()
    assert late.is_alive()  # it waits for the first
    storage.open.set()
    late.join(30)
    box.settle()
    assert box.done == [0, 1, 2, 3]
    assert storage.stored == {0: b"0", 1: b"1", 2: b"2", 3: b"the next"}
    assert (box.start, box.size) == (11, 0)


def test_what_failed_is_told_and_nothing_is_sent_behind_it(
    threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    storage = Storage()
    storage.open.set()
    storage.refused = {1}
    box = Outbox(storage.take, threads, str(tmp_path), 0)
    _fill(box, 1)
    box.write(b"x")
    box.send()
    with pytest.raises(OSError, match="no 1"):
        box.settle()
    assert box.done == [0]
    box.write(b"more")
    box.send()
    with pytest.raises(OSError, match="no 1"):
        box.settle()
    assert storage.stored == {0: b"0"}


def test_a_disk_that_is_full_fails_the_upload(threads: ThreadPoolExecutor) -> None:
    storage = Storage()
    storage.open.set()
    box = Outbox(storage.take, threads, "/dev/null/none", 0)
    with pytest.raises(NotADirectoryError):
        box.write(b"x")
    with pytest.raises(NotADirectoryError):
        box.settle()
    box.close()
    assert storage.stored == {}
