"""Frames of stdout and stderr are put together from any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.client.frames import STDERR, STDOUT, Frames
from sampan.errors import Internal


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=20)), max_size=6),
    st.integers(min_value=1, max_value=9),
)
def test_any_cut_gives_the_same_streams(frames: list[tuple[int, bytes]], size: int) -> None:
    data = b"".join(frame(stream, payload) for stream, payload in frames)
    reader = Frames()
    found = {STDOUT: b"", STDERR: b""}
    for at in range(0, len(data), size):
        for stream, payload in reader.feed(data[at : at + size]):
            found[stream] += payload
    for stream, collected in found.items():
        assert collected == b"".join(payload for kind, payload in frames if kind == stream)


def test_the_stream_of_stdin_is_stdout() -> None:
    assert list(Frames().feed(frame(0, b"x"))) == [(STDOUT, b"x")]


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(Internal, match="unrecognized stream: 104"):
        list(Frames().feed(b"hello world"))
