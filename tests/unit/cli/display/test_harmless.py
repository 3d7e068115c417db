"""Control characters of others are shown, never obeyed."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sampan.cli.display import harmless


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("", "plain", "naïve 漢字 …", "a b"):
        assert harmless.line(text) == harmless.lines(text) == harmless.stream(text) == text


def test_lines_keep_their_ends_and_tabs_and_streams_their_returns() -> None:
    assert harmless.line("a\nb\tc") == "a\\x0ab\\x09c"
    assert harmless.lines("a\nb\tc\r") == "a\nb\tc\\x0d"
    assert harmless.stream("a\r\nb") == "a\r\nb"


def test_directions_of_writing_cannot_be_turned() -> None:
    assert harmless.line("exe\u202egpj") == "exe\\u202egpj"


@given(st.text())
def test_no_control_passes(text: str) -> None:
    left = {character for character in harmless.stream(text) if ord(character) < 0x20}
    assert left <= {"\n", "\r", "\t"}
    assert not any(0x7F <= ord(character) < 0xA0 for character in harmless.stream(text))


@given(st.text())
def test_json_keeps_its_values(text: str) -> None:
    written = harmless.json_text(json.dumps(text, ensure_ascii=False))
    assert json.loads(written) == text
    assert not any(0x7F <= ord(character) < 0xA0 for character in written)
