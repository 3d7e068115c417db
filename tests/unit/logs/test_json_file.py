"""The format of json-file: what Docker's tools read."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from sampan.logs.json_file import JsonFile

NOW = 1_767_323_045_000_000_006  # 2026-01-02T03:04:05.000000006Z
LINES = st.lists(st.text().map(lambda text: text.replace("\n", "") + "\n"), min_size=1)


def test_an_entry_is_what_docker_writes() -> None:
    entry = JsonFile().encode("stdout", b"hello\n", NOW)
    assert entry == (
        b'{"log":"hello\\n","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}\n'
    )


def test_attributes_are_in_every_entry() -> None:
    entries = JsonFile({"tag": "x"}).encode("stderr", b"a\nb\n", NOW).splitlines()
    assert [json.loads(entry)["attrs"] for entry in entries] == [{"tag": "x"}] * 2
    assert list(json.loads(entries[0])) == ["log", "stream", "attrs", "time"]


@given(LINES)
@example(["back\\n slash \\\\\n", "\\\n", "\\n\n"])
@example(['","stream":"stdout"}\n', '{"log":"\n', "\x00\n"])
def test_a_block_is_one_document_per_line(lines: list[str]) -> None:
    entries = JsonFile().encode("stdout", "".join(lines).encode(), NOW).split(b"\n")
    assert entries.pop() == b""
    assert [json.loads(entry)["log"] for entry in entries] == lines


@given(st.lists(st.binary().map(lambda data: data.replace(b"\n", b"") + b"\n"), min_size=1))
def test_what_is_no_text_is_still_valid_json(lines: list[bytes]) -> None:
    entries = JsonFile().encode("stdout", b"".join(lines), NOW).splitlines()
    assert len(entries) == len(lines)
    for entry, line in zip(entries, lines, strict=True):
        assert json.loads(entry)["log"] == line.decode("utf-8", "replace")


@given(LINES)
def test_what_was_encoded_is_decoded(lines: list[str]) -> None:
    codec = JsonFile({"a": "b"})
    entries = codec.encode("stderr", "".join(lines).encode(), NOW)
    found, used = codec.decode(entries + b'{"log":"cut')
    assert used == len(entries)
    assert [line.line.decode() for line in found] == lines
    assert {(line.time, line.stream) for line in found} == {(NOW, "stderr")}
    assert found[0].attributes == {"a": "b"}


@given(st.binary())
def test_damage_is_skipped(data: bytes) -> None:
    good = JsonFile().encode("stdout", b"good\n", NOW)
    found, used = JsonFile().decode(data + b"\n" + good)
    assert used == len(data) + 1 + len(good)
    assert found[-1].line == b"good\n"


@given(st.integers(0, 300), st.integers(0, 320))
def test_the_tail_begins_at_the_right_line(lines: int, wanted: int) -> None:
    codec = JsonFile()
    block = b"".join(b"%d%s\n" % (number, b"x" * (number * 7 % 900)) for number in range(lines))
    data = codec.encode("stdout", block, NOW) if block else b""
    descriptor = os.memfd_create("log")
    try:
        os.write(descriptor, data)
        start, found = codec.tail(descriptor, len(data), wanted)
        assert found == min(wanted, lines)
        assert len(codec.decode(data[start:])[0]) == found
    finally:
        os.close(descriptor)


def test_an_entry_that_a_crash_has_cut_is_not_part_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    good = JsonFile().encode("stdout", b"good\n", NOW)
    path.write_bytes(good + b'{"log":"half')
    with open(path, "rb") as file:
        assert JsonFile().whole(file.fileno(), path.stat().st_size) == len(good)
