from __future__ import annotations

import json
import logging

import pytest

from sampan.registryd.logs import Formatter


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
