"""Logs reach their readers framed, with times and attributes, to the end."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from sampan.engine.containers.container import Container
from sampan.engine.containers.logs import Logs, shown_attributes
from sampan.engine.containers.queries import LogsQuery
from sampan.errors import Conflict, InvalidArgument, Unsupported
from sampan.logs.files import LogWriter, open_writer
from sampan.logs.stream import frame
from sampan.spec.docker.config import Config, HostConfig, LogConfig
from tests.unit.engine.fakes import container

BOTH = LogsQuery(stdout=True, stderr=True)


def writer_of(root: Path, made: Container, **attributes: str) -> LogWriter:
    folder = root / "containers" / made.id
    folder.mkdir(parents=True)
    writer = open_writer(folder, made.id, "json-file", {}, attributes, os.getgid())
    assert writer
    return writer


def read(root: Path, made: Container, query: LogsQuery) -> bytes:
    async def collect() -> bytes:
        _, content = Logs(root).read(made, query)
        return b"".join([block async for block in content])

    return asyncio.run(collect())


def test_lines_come_in_frames_of_their_stream(tmp_path: Path) -> None:
    made = container()
    writer = writer_of(tmp_path, made)
    writer.write("stdout", b"one\ntwo\n")
    writer.write("stderr", b"bad\n")
    writer.close()
    assert read(tmp_path, made, BOTH) == frame(1, b"one\n") + frame(1, b"two\n") + frame(
        2, b"bad\n"
    )
    assert read(tmp_path, made, LogsQuery(stderr=True)) == frame(2, b"bad\n")
    # As in Docker, the tail counts the lines of both streams.
    assert read(tmp_path, made, LogsQuery(stdout=True, tail=2)) == frame(1, b"two\n")


def test_a_terminal_s_log_is_raw(tmp_path: Path) -> None:
    made = container(Config(tty=True))
    writer = writer_of(tmp_path, made)
    writer.write("stdout", b"one\r\n")
    writer.close()
    assert read(tmp_path, made, BOTH) == b"one\r\n"


def test_times_and_attributes_come_before_the_line(tmp_path: Path) -> None:
    made = container()
    writer = writer_of(tmp_path, made, team="blue and green")
    writer.write("stdout", b"one\n")
    writer.close()
    query = LogsQuery(stdout=True, timestamps=True, details=True)
    time, attributes, text = read(tmp_path, made, query)[8:].split(b" ")
    assert len(time) == len("2026-01-02T03:04:05.000000006Z")
    assert attributes == b"team=blue+and+green"
    assert text == b"one\n"


def test_attributes_are_sorted() -> None:
    assert shown_attributes({"b": "2", "a": "="}) == "a=%3D,b=2"


def test_following_goes_on_until_the_container_ends_and_loses_nothing(tmp_path: Path) -> None:
    made = container(running=True)
    writer = writer_of(tmp_path, made)
    writer.write("stdout", b"before\n")

    async def follow() -> bytes:
        loop = asyncio.get_running_loop()

        def write_and_end() -> None:
            for number in range(100):
                writer.write("stdout", b"%d\n" % number)
            writer.close()
            loop.call_soon_threadsafe(made.ended.set)

        query = LogsQuery(stdout=True, follow=True)
        _, content = Logs(tmp_path).read(made, query)
        blocks = [await anext(content)]  # type: ignore[arg-type]
        thread = threading.Thread(target=write_and_end)
        thread.start()
        blocks += [block async for block in content]
        thread.join()
        return b"".join(blocks)

    expected = [b"before\n", *(b"%d\n" % number for number in range(100))]
    assert asyncio.run(follow()) == b"".join(frame(1, line) for line in expected)


def test_a_container_that_was_never_started_has_an_empty_log(tmp_path: Path) -> None:
    assert read(tmp_path, container(), BOTH) == b""


def test_what_cannot_be_read_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    with pytest.raises(InvalidArgument, match="at least one stream"):
        logs.read(container(), LogsQuery())
    silent = container(host=HostConfig(log_config=LogConfig(type="none")))
    with pytest.raises(Unsupported, match="does not support reading"):
        logs.read(silent, BOTH)
    dying = container()
    dying.removing = True
    with pytest.raises(Conflict, match="marked for removal"):
        logs.read(dying, BOTH)
