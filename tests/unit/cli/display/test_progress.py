"""Progress messages as lines."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.cli.display.output import Output
from sampan.cli.display.progress import progress, show
from sampan.errors import Internal

WIDE, NARROW = 120, 80


def printed(*messages: Any) -> str:
    read, write = os.pipe()
    try:
        output = Output(write)
        show(iter(messages), output)
        output.flush()
        os.close(write)
        write = -1
        return os.read(read, 1 << 16).decode()
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)


def test_streams_are_printed_as_they_are_and_statuses_as_lines() -> None:
    assert printed({"stream": "Loaded image: a\n"}) == "Loaded image: a\n"
    assert printed({"status": "sha256:x"}, {"id": "layer", "status": "Done"}) == (
        "sha256:x\nlayer: Done\n"
    )


def test_half_way_marks_are_not_for_files() -> None:
    message = {"id": "x", "status": "Downloading", "progressDetail": {"current": 1, "total": 2}}
    assert printed(message) == ""


def test_an_error_in_the_stream_is_an_error() -> None:
    with pytest.raises(Internal, match="no space"):
        show([{"errorDetail": {"message": "no space"}, "error": "no space"}], None)
    with pytest.raises(Internal, match="no space"):
        show([{"error": "no space"}], None)


@pytest.mark.parametrize("message", [[], 1, None, "text"])
def test_what_is_no_message_is_an_error(message: Any) -> None:
    with pytest.raises(Internal, match="no message"):
        show([message], None)


def test_the_rest_of_the_stream_is_not_read_after_an_error() -> None:
    def messages() -> Iterator[dict[str, str]]:
        yield {"error": "enough"}
        raise AssertionError("read on")

    with pytest.raises(Internal, match="enough"):
        show(messages(), None)


def test_what_is_auxiliary_is_collected_and_not_printed() -> None:
    found: list[Any] = []
    show([{"status": "a", "aux": {"ID": "x"}}, {"aux": {}}], None, found)
    assert found == [{"ID": "x"}, {}]
    assert printed({"status": "a", "aux": {"ID": "x"}}) == ""


def test_the_times_and_origins_of_messages_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert printed({"status": "s", "id": "i", "from": "f", "time": 1}) == (
        "1970-01-01T00:00:01.000000000Z i: (from f) s\n"
    )


def test_escape_sequences_are_shown_and_not_obeyed() -> None:
    hostile = "\x1b]0;owned\x07\x9b2J\r\nnext"
    shown = printed({"id": hostile, "status": hostile})
    assert shown.count("\n") == 1
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r"}
    assert "\\x1b]0;owned\\x07" in shown
    assert printed({"stream": "a\x1b[2Jb\r\n"}) == "a\\x1b[2Jb\r\n"


FIELDS = ("id", "status", "stream", "progress", "from", "time", "timeNano", "aux")
ANY: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(alphabet=st.characters(exclude_categories=()))
    | st.lists(st.integers())
    | st.dictionaries(st.text(), st.integers())
)
DETAILS = st.dictionaries(
    st.sampled_from(("current", "total", "start", "units", "hidecounts")), ANY
)
MESSAGES = st.builds(
    lambda fields, detail: fields | detail,
    st.dictionaries(st.sampled_from(FIELDS), ANY),
    st.dictionaries(st.just("progressDetail"), DETAILS | ANY),
)
OURS = re.compile("\x1b\\[[0-9]+[AB]|\x1b\\[2?[JK]|[\r\n\t]")


class Terminal(Output):
    """A pipe that says it is a terminal."""

    def is_terminal(self) -> bool:
        return True


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Output, Terminal])
@settings(deadline=None)
@given(messages=st.lists(MESSAGES, max_size=5))
def test_any_messages_are_shown_or_refused(
    kind: type[Output], messages: list[dict[str, Any]]
) -> None:
    read, write = os.pipe()
    output = kind(write)
    try:
        with contextlib.suppress(Internal):
            show(iter(messages), output)
        output.write("end")
        output.flush()
        text = os.read(read, 1 << 20).decode()
    finally:
        os.close(read)
        os.close(write)
    left = OURS.sub("", text)
    assert left.endswith("end")
    assert not [letter for letter in left if ord(letter) < 0x20 or 0x7F <= ord(letter) < 0xA0]


def test_a_bar_is_as_long_as_the_work_done() -> None:
    text = progress({"current": 50, "total": 100}, WIDE)
    assert text == "[" + "=" * 25 + ">" + " " * 25 + "]      50B/100B"
    assert progress({"current": 100, "total": 100}, WIDE).startswith("[" + "=" * 50 + ">]")
    assert progress({}, WIDE) == ""


def test_a_narrow_terminal_has_numbers_without_a_bar() -> None:
    assert progress({"current": 50, "total": 100}, NARROW) == "     50B/100B"
    assert progress({"current": 1200}, NARROW) == "   1.2kB"
    assert progress({"current": 3, "total": 9, "units": "files"}, NARROW) == "3/9 files"
    assert progress({"current": 3, "total": 9, "hidecounts": True}, NARROW) == ""


def test_wrong_numbers_do_no_harm() -> None:
    assert progress({"current": 300, "total": 100}, WIDE).endswith("]     300B")
    assert progress({"current": -300, "total": 100}, WIDE).startswith("[>" + " " * 50)
    assert progress({"current": "x", "total": None}, WIDE) == ""


def test_the_time_that_is_left_is_told() -> None:
    text = progress({"current": 1, "total": 101, "start": 1}, NARROW)
    assert text.endswith("s")
    assert "h" in text
    assert progress({"current": 1, "total": 101, "start": 1}, 50) == "      1B/101B"
