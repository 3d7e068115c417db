from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sampan.registry.configuration import schema
from sampan.registry.configuration.document import check
from sampan.registry.configuration.nodes import Free, Many, Text
from sampan.registry.configuration.spelling import parse

GOOD = "version: 0.1\nstorage: {inmemory: }\n"


@pytest.mark.parametrize(
    "text", ["true", "True", "yes", "0123", "1_000", "1e3", "0x10", "2024-01-01", "12:30", "1.10"]
)
def test_a_string_is_what_is_written(text: str) -> None:
    found = check(
        f"""{GOOD}
http: {{headers: {{Access-Control-Allow-Credentials: [{text}]}}}}
log: {{fields: {{build: {text}}}}}
proxy: {{remoteurl: "https://example.com", username: {text}, password: {text}}}
""".encode(),
        {},
    )
    assert found.get("http.headers.Access-Control-Allow-Credentials") == [text]
    assert found.get("log.fields.build") == text
    assert (found.get("proxy.username"), found.get("proxy.password")) == (text, text)


def test_other_values_are_what_they_mean() -> None:
    text = f"{GOOD}catalog: {{maxentries: 0x10}}\nhttp: {{relativeurls: yes, debug: {{addr: }}}}\n"
    found = check(text.encode(), {})
    assert (found.get("catalog.maxentries"), found.get("http.relativeurls")) == (16, True)
    assert found.get("http.debug.addr") is None


def test_aliases_and_merged_maps_are_followed() -> None:
    text = "a: &a {x: true}\nb: {<<: *a, y: no}\n1: {z: 1}\n"
    assert parse(text, Free(Free(Text()))) == {
        "a": {"x": "true"},
        "b": {"x": "true", "y": "no"},
        1: {"z": "1"},
    }
    assert parse("{1: a, 01: b}", Free(Text())) == {1: "b"}


@given(st.text() | st.from_regex(r"[\[{&*a-c01:,\n -]*"))
def test_whatever_is_written_no_other_error_comes_of_it(text: str) -> None:
    for node in (schema.ROOT, Free(Many(Text()))):
        try:
            parse(text, node)
        except (yaml.YAMLError, RecursionError, ValueError):
            continue
