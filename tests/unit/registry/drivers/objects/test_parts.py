"""A file that grows in parts is what was written to it, whatever fails and whoever goes on."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.registry.drivers.driver import Writer
from sampan.registry.drivers.objects import driver as driver_module
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.drivers.objects.parts import PARTS, PartsWriter, chain
from tests.memory_bucket import MemoryBucket


def _kill(writer: Writer) -> None:
    """End a writer as a kill does; what is on its way arrives, or does not."""
    assert isinstance(writer, PartsWriter)
    with contextlib.suppress(OSError):
        writer._outbox.settle()
    writer._outbox.close()


STEPS = st.lists(
    st.tuples(st.sampled_from(["write", "sync", "fail", "kill", "cut"]), st.integers(0, 25)),
    max_size=30,
)


@given(STEPS)
def test_what_was_acknowledged_is_there(steps: list[tuple[str, int]]) -> None:
    bucket = MemoryBucket()
    driver = ObjectDriver(bucket)
    writer = driver.append("up/data", 0)
    told = written = b""
    for number, (step, count) in enumerate(steps):
        if step == "write":
            writer.write(bytes([number]) * count)
            written += bytes([number]) * count
            continue
        if step == "sync":
            writer.sync()
            assert driver.read("up/data") == written
            told = written
            continue
        if step == "fail":  # what was sent before is there; the writer is of no use any more
            bucket.fails = 99
            with pytest.raises(OSError, match="away"), writer:
                writer.write(b"x" * 100)  # more than a part, so it is sent
            bucket.fails = 0
            written += b"x" * 100
        _kill(writer)
        # What was told is there, and perhaps more; then it goes on.
        found = driver.read("up/data") if bucket.objects else b""
        assert written.startswith(found)
        assert found.startswith(told)
        told = written = found[:count] if step == "cut" else found
        writer = driver.append("up/data", len(told))
    writer.close()
    assert driver.read("up/data") == written
    with driver.move("up/data", "blob/data", writer.version) as moved:
        moved.prepare()
        moved.publish()
    assert bucket.objects == {"blob/data": written}
    driver.close()


def test_a_version_is_another_when_somebody_else_writes() -> None:
    bucket = MemoryBucket()
    driver = ObjectDriver(bucket)
    first = driver.append("up/data", 0)
    first.write(b"12345")
    first.close()
    again = driver.append("up/data", 5)
    assert again.version == first.version
    other = driver.append("up/data", 5)
    other.write(b"6")
    other.close()
    assert other.version != first.version
    with pytest.raises(OSError, match="changed by others"):
        driver.move("up/data", "blob/data", first.version)
    driver.close()


def test_only_parts_that_follow_each_other_count() -> None:
    bucket = MemoryBucket()
    for offset, size in ((0, 10), (10, 10), (15, 10), (25, 1), (20, 3)):
        bucket.keep(f"k{PARTS}{offset:020}", b"x" * size)
    bucket.keep(f"k{PARTS}notes", b"x")
    found = chain(bucket.list("k.parts/"), "k.parts/")
    assert [part.size for part in found] == [10, 10, 3]
    driver = ObjectDriver(bucket)
    with pytest.raises(OSError, match="has 23 bytes, not 24"):
        driver.append("k", 24)
    assert len(bucket.objects) == 6
    driver.append("k", 23).close()  # what is behind a gap would count once that is closed
    assert sorted(bucket.objects) == [f"k{PARTS}{offset:020}" for offset in (0, 10, 20)]
    driver.close()


def test_a_short_part_that_cannot_be_read_is_not_written_over() -> None:
    bucket = MemoryBucket()
    driver = ObjectDriver(bucket)
    with driver.append("k", 0) as writer:
        writer.write(b"abc")
    writer = driver.append("k", 3)
    bucket.fails = 3  # as often as reading is tried
    with pytest.raises(OSError, match="away"):
        writer.write(b"d")
    with pytest.raises(OSError, match="away"):
        writer.close()
    assert driver.read("k") == b"abc"
    driver.close()


def test_a_list_that_lags_behind_keeps_no_upload_from_its_end() -> None:
    bucket = MemoryBucket()
    driver = ObjectDriver(bucket)
    with driver.append("up/data", 0) as writer:
        writer.write(b"content that is in several parts")
    last = max(bucket.objects)
    bucket.unlisted.add(last)
    with driver.move("up/data", "blob/data", writer.version) as moved:
        moved.publish()
    assert bucket.objects == {"blob/data": b"content that is in several parts"}
    with pytest.raises(FileNotFoundError):  # it is remembered once
        driver.move("up/data", "blob/data", writer.version)
    driver.close()


def test_only_so_many_versions_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "REMEMBERED", 2)
    driver = ObjectDriver(MemoryBucket())
    for number in range(4):
        with driver.append(f"up{number}/data", 0) as writer:
            writer.write(b"%d" % number)
    assert len(driver._written) == 2
    driver.close()
