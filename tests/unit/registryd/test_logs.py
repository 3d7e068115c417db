from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

from sampan.registryd.logs import Formatter, shown, unbuffered


def record(message: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("x", level, "/src/place.py", 7, message, (), None)


def test_text_is_one_line_of_pairs() -> None:
    line = Formatter("text", {"service": "hub"}, True).format(record('a "b"\nc'))
    assert line.startswith('time="20')
    assert 'level=info msg="a \\"b\\"\\nc" service="hub" file="place.py:7"' in line
    assert "\n" not in line


def test_what_clients_choose_reaches_no_terminal() -> None:
    line = Formatter("text", {"name": "\x9b1m"}).format(record("a\x1b[31m\x9b31m\x7f\x85\u2028é"))
    assert 'msg="a\\u001b[31m\\u009b31m\\u007f\\u0085\\u2028é" name="\\u009b1m"' in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "message", "time"),
    [("json", "msg", "time"), ("logstash", "message", "@timestamp")],
)
def test_machines_read_json(kind: str, message: str, time: str) -> None:
    line = Formatter(kind, {"service": "hub"}).format(record("hello", logging.WARNING))
    found = json.loads(line)
    assert (found[message], found["level"], found["service"]) == ("hello", "warning", "hub")
    assert found[time].endswith("Z")
    assert ("@version" in found) == (kind == "logstash")


def test_nothing_is_kept_that_could_not_be_written() -> None:
    with open("/dev/full", "w") as full:
        out = unbuffered(full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                out.write("a line\n" * 10_000)
        out.detach()


def test_lines_are_in_the_file_at_once(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        out = unbuffered(file)
        out.write("a line\n")
        assert (tmp_path / "log").read_text() == "a line\n"
        out.detach()
    assert unbuffered(io.StringIO()).write("x") == 1


@pytest.mark.parametrize("kind", ["text", "json", "logstash"])
def test_passwords_in_addresses_are_not_written_down(kind: str) -> None:
    line = Formatter(kind, {}).format(record("no answer from redis://:secret@host:6379/0"))
    assert "redis://xxxxx:xxxxx@host:6379/0" in line
    assert "secret" not in line


def test_terminals_are_shown_no_controls() -> None:
    assert shown("a\x1b[31m\x9b\x00\udc80\n\tb http://u:p@h\u2028") == (
        "a\\x1b[31m\\u009b\\x00\\udc80\n\tb http://xxxxx:xxxxx@h\\u2028"
    )
