"""What is printed on terminals and into files."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.cli.display.output import Output, Styled


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def printed(ends: tuple[int, int], *data: str | bytes) -> str:
    output = Output(ends[1])
    for item in data:
        output.write(item)
    output.flush()
    return os.read(ends[0], 1 << 16).decode(errors="replace").replace("\r\n", "\n")


def test_text_cannot_steer_a_terminal(terminal: tuple[int, int]) -> None:
    assert printed(terminal, "a\x1b[2J\tb\n") == "a\\x1b[2J\tb\n"


def test_bytes_and_styled_text_can(terminal: tuple[int, int]) -> None:
    assert printed(terminal, b"\x1b[1m", Styled("\x1b[2m")) == "\x1b[1m\x1b[2m"


def test_files_have_what_was_there(pipe: tuple[int, int]) -> None:
    assert printed(pipe, "a\x1b[2Jé\udcff".encode("utf-8", "surrogateescape")[:-1]) == "a\x1b[2Jé"
    assert printed(pipe, "\x1b[1m\n") == "\x1b[1m\n"


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_can_be_printed(text: str) -> None:
    read, write = os.pipe()
    try:
        assert printed((read, write), text, "\n").endswith("\n")
    finally:
        os.close(read)
        os.close(write)


def test_halves_of_pairs_cannot_steer_a_terminal(terminal: tuple[int, int]) -> None:
    output = Output(terminal[1])
    output.write("a\udc9b2J\ud800\n")
    output.flush()
    assert os.read(terminal[0], 1 << 16).decode() == "a\ufffd2J\ufffd\r\n"
