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
