"""Compressed streams, and those that pretend."""

from __future__ import annotations

import bz2
import fcntl
import gzip
import io
import lzma
import os
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.storage.archives import compression
from sampan.storage.archives.compression import gzip_writer, kind_of, plain_chunks, widen

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def plain(content: bytes) -> bytes:
    return b"".join(plain_chunks(io.BytesIO(content).read))


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("size", [0, 1, 5000, 3 << 20])
def test_every_kind_is_told_by_its_first_bytes(kind: str, size: int) -> None:
    content = (b"some text " * (size // 10 + 1))[:size]
    packed = COMPRESSORS[kind](content)
    assert kind_of(packed[:6]) == kind
    assert plain(packed) == content


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_streams_of_several_members_are_one(kind: str) -> None:
    compress = COMPRESSORS[kind]
    assert plain(compress(b"one ") + compress(b"two")) == b"one two"


def test_what_is_not_compressed_passes() -> None:
    assert plain(b"") == b""
    assert plain(b"abc") == b"abc"
    assert kind_of(b"ustar") == ""


def test_a_pipe_that_gives_one_byte_at_a_time_is_understood() -> None:
    packed = io.BytesIO(gzip.compress(b"hello"))
    assert b"".join(plain_chunks(lambda size: packed.read(1))) == b"hello"


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_a_stream_that_ends_early_is_refused(kind: str) -> None:
    packed = COMPRESSORS[kind](bytes(range(256)) * 4000)
    with pytest.raises(InvalidArgument, match=f"broken {kind} stream"):
        plain(packed[: len(packed) // 2])


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_a_damaged_stream_is_refused(kind: str) -> None:
    packed = bytearray(COMPRESSORS[kind](bytes(range(256)) * 4000))
    packed[8:40] = b"\xff" * 32
    with pytest.raises(InvalidArgument, match=f"broken {kind} stream"):
        plain(bytes(packed))


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_padding_is_allowed_and_garbage_is_not(kind: str) -> None:
    packed = COMPRESSORS[kind](b"hello")
    assert plain(packed + bytes(600)) == b"hello"
    with pytest.raises(InvalidArgument, match="garbage"):
        plain(packed + b"garbage")


@pytest.mark.parametrize("kind", ["zstd", "xz", "bzip2"])
def test_a_bomb_is_refused_before_it_fills_anything(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "FREE_OUTPUT", 4 << 20)
    bomb = COMPRESSORS[kind](bytes(64 << 20))
    produced = 0
    with pytest.raises(InvalidArgument, match="bomb"):
        for chunk in plain_chunks(io.BytesIO(bomb).read):
            produced += len(chunk)
    assert produced <= 32 << 20


def test_the_same_content_is_packed_to_the_same_bytes() -> None:
    def pack() -> bytes:
        out = io.BytesIO()
        with gzip_writer(out) as writer:
            writer.write(b"content" * 1000)
        return out.getvalue()

    assert pack() == pack()
    assert plain(pack()) == b"content" * 1000


@given(
    st.binary(max_size=300),
    st.sampled_from([b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"]),
)
def test_no_bytes_make_it_fail_otherwise(noise: bytes, magic: bytes) -> None:
    try:
        plain(magic + noise)
    except InvalidArgument:
        pass


def test_pipes_are_widened_and_all_else_is_left_alone() -> None:
    read, write = os.pipe()
    widen(read)
    assert fcntl.fcntl(write, fcntl.F_GETPIPE_SZ) >= 64 << 10
    for fd in (read, write):
        os.close(fd)
    fd = os.memfd_create("file")
    widen(fd)
    os.close(fd)
