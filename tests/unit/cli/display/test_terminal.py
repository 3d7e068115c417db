"""Detach keys and what is typed around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cli.display.terminal import DEFAULT_DETACH_KEYS, DetachScanner, detach_keys
from sampan.errors import InvalidArgument


def test_keys_are_letters_and_controls() -> None:
    assert detach_keys("") == DEFAULT_DETACH_KEYS == b"\x10\x11"
    assert detach_keys("ctrl-@,a,ctrl-_") == b"\x00a\x1f"
    with pytest.raises(InvalidArgument, match="invalid detach keys"):
        detach_keys("ctrl-1")


def test_the_sequence_is_found_over_several_reads_and_not_passed_on() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"ls\n\x10") == (b"ls\n", False)
    assert scanner.feed(b"\x11rest") == (b"", True)


def test_a_broken_off_sequence_is_passed_on() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"\x10") == (b"", False)
    assert scanner.feed(b"x") == (b"\x10x", False)
    assert scanner.feed(b"\x10\x10\x11") == (b"\x10", True)


@given(st.lists(st.binary(max_size=6), max_size=6))
def test_without_the_sequence_every_byte_is_passed_on(pieces: list[bytes]) -> None:
    scanner = DetachScanner(b"\xfe\xff")
    typed = b"".join(pieces)
    if b"\xfe" in typed:
        return
    assert b"".join(scanner.feed(piece)[0] for piece in pieces) == typed
