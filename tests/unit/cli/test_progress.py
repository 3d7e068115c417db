"""Progress messages as lines."""

from __future__ import annotations

import os

import pytest

from sampan.cli.output import Output
from sampan.cli.progress import bar, show
from sampan.errors import Internal


def printed(*messages: dict[str, object]) -> str:
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


def test_a_bar_is_as_long_as_the_work_done() -> None:
    text = bar({"current": 50, "total": 100})
    assert text.startswith("[" + "=" * 25 + ">" + " " * 24 + "]")
    assert bar({}) == ""
