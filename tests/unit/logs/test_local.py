"""The format of local."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from sampan.logs.local import Local

BLOCKS = st.lists(st.binary(min_size=1, max_size=200), max_size=20)


def written(blocks: list[bytes], attributes: dict[str, str] | None = None) -> bytes:
    codec = Local()
    entries = [codec.encode("stdout", block, 7) for block in blocks]
    return codec.preamble(attributes or {}) + b"".join(entries)


@given(BLOCKS)
def test_what_was_encoded_is_decoded(blocks: list[bytes]) -> None:
    codec = Local()
    data = b"".join(codec.encode("stderr", block, 7) for block in blocks)
    found, used = codec.decode(data + b"\x01")
    assert used == len(data)
    assert b"".join(line.line for line in found) == b"".join(blocks)
    assert all(line.line.count(b"\n") <= 1 for line in found)
    assert {(line.time, line.stream) for line in found} <= {(7, "stderr")}


@given(BLOCKS, st.integers(0, 50))
def test_the_tail_holds_at_least_what_is_wanted(blocks: list[bytes], wanted: int) -> None:
    data = written(blocks)
    codec = Local()
    descriptor = os.memfd_create("log")
    try:
        os.write(descriptor, data)
        everything = codec.decode(data[codec.start(descriptor) :])[0]
        start, found = codec.tail(descriptor, len(data), wanted)
        lines = codec.decode(data[start:])[0]
        assert len(lines) == found >= min(wanted, len(everything))
        assert everything[len(everything) - found :] == lines
    finally:
        os.close(descriptor)


def test_attributes_are_kept_once_per_file() -> None:
    data = written([b"a\n"], {"tag": "x"})
    codec = Local()
    descriptor = os.memfd_create("log")
    try:
        os.write(descriptor, data)
        lines = codec.decode(data[codec.start(descriptor) :])[0]
        assert lines[0].attributes == {"tag": "x"}
    finally:
        os.close(descriptor)


@given(BLOCKS, st.integers(0, 30))
def test_an_entry_that_a_crash_has_cut_is_not_part_of_the_log(
    blocks: list[bytes], lost: int
) -> None:
    whole = written(blocks)
    data = written([*blocks, b"the last one has forty bytes, more or less\n"])[: -1 - lost]
    descriptor = os.memfd_create("log")
    try:
        os.write(descriptor, data)
        assert Local().whole(descriptor, len(data)) == len(whole)
    finally:
        os.close(descriptor)


@given(st.binary())
def test_damage_ends_the_log_and_nothing_else(data: bytes) -> None:
    lines, used = Local().decode(data)
    assert used <= len(data)
    assert all(line.stream in ("stdout", "stderr") for line in lines)
