"""Docker's frames on one connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.logs.stream import STDERR, STDOUT, FrameReader, frame

FRAMES = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=50)))


def test_a_frame_names_stream_and_length() -> None:
    assert frame(STDERR, b"hi") == b"\x02\x00\x00\x00\x00\x00\x00\x02hi"


@given(FRAMES, st.integers(min_value=1, max_value=20))
def test_frames_survive_any_cutting(frames: list[tuple[int, bytes]], size: int) -> None:
    data = b"".join(frame(number, payload) for number, payload in frames)
    reader = FrameReader()
    found = []
    for start in range(0, len(data), size):
        found += reader.feed(data[start : start + size])
    assert found == frames


@given(st.binary())
def test_what_is_no_frame_is_refused_or_waited_for(data: bytes) -> None:
    try:
        frames = list(FrameReader().feed(data))
    except InvalidArgument:
        return
    assert len(b"".join(frame(*each) for each in frames)) <= len(data)


def test_an_unknown_stream_is_named() -> None:
    with pytest.raises(InvalidArgument, match="Unrecognized input header: 7"):
        list(FrameReader().feed(b"\x07" + bytes(7)))
