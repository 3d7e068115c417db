"""Reading a log: tail, since, until, follow, across rotation and compression."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.logs import files
from sampan.logs.files import LogWriter, open_writer
from sampan.logs.reader import LogReader

ID = "b" * 64

Open = Callable[..., LogWriter]


@pytest.fixture(params=["json-file", "local"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_log(tmp_path: Path, driver: str) -> Iterator[Open]:
    made: list[LogWriter] = []

    def make(**options: str) -> LogWriter:
        named = {key.replace("_", "-"): value for key, value in options.items()}
        log = open_writer(tmp_path, ID, driver, named, {"tag": "t"}, os.getgid())
        assert log
        made.append(log)
        return log

    yield make
    for log in made:
        log.close()


def read(folder: Path, driver: str, **wanted: Any) -> list[str]:
    """Return all that a reader gives."""
    found: list[str] = []
    with LogReader(folder, ID, driver, **wanted) as reader:
        while lines := reader.read():
            found += [line.line.decode() for line in lines]
    return found


def numbers(first: int, last: int) -> list[str]:
    return [f"line {number}\n" for number in range(first, last)]


def fill(log: LogWriter, first: int, last: int) -> None:
    for line in numbers(first, last):
        log.write("stdout", line.encode())


def test_a_log_without_a_file_is_empty(tmp_path: Path, driver: str) -> None:
    assert read(tmp_path, driver) == []


def test_everything_comes_in_order(tmp_path: Path, driver: str, open_log: Open) -> None:
    fill(open_log(), 0, 500)
    assert read(tmp_path, driver) == numbers(0, 500)


@pytest.mark.parametrize("count", [0, 1, 7, 500, 501])
def test_the_tail_is_exact(tmp_path: Path, driver: str, open_log: Open, count: int) -> None:
    log = open_log()
    log.write("stdout", "".join(numbers(0, 500)).encode())
    assert read(tmp_path, driver, tail=count) == numbers(max(500 - count, 0), 500)


def test_the_tail_reaches_into_rotated_files(tmp_path: Path, driver: str, open_log: Open) -> None:
    fill(open_log(max_size="1k", max_file="4", compress="false"), 0, 200)
    everything = read(tmp_path, driver)
    assert everything == numbers(200 - len(everything), 200)
    assert len(everything) > 15
    assert read(tmp_path, driver, tail=15) == numbers(185, 200)


def test_compressed_files_are_read_as_well(tmp_path: Path, driver: str, open_log: Open) -> None:
    log = open_log(max_size="2k", max_file="4", compress="true")
    for number in range(200):
        log.write("stdout", b"line %d\n" % number)
        if log._compressor >= 0:
            select.select([log._compressor], [], [], 20)
    everything = read(tmp_path, driver)
    assert list(log.path.parent.glob("*.gz"))
    assert everything == numbers(200 - len(everything), 200)
    assert read(tmp_path, driver, tail=len(everything) - 1) == everything[1:]


def test_since_and_until_are_times(
    tmp_path: Path, driver: str, open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log()
    for second in range(10):
        monkeypatch.setattr(files.time, "time_ns", lambda second=second: second * 10**9)
        log.write("stdout", b"line %d\n" % second)
    assert read(tmp_path, driver, since=3 * 10**9) == numbers(3, 10)
    assert read(tmp_path, driver, until=3 * 10**9) == numbers(0, 4)
    assert read(tmp_path, driver, since=3 * 10**9, until=5 * 10**9) == numbers(3, 6)


def test_one_stream_can_be_asked_for(tmp_path: Path, driver: str, open_log: Open) -> None:
    log = open_log()
    log.write("stdout", b"out\n")
    log.write("stderr", b"err\n")
    assert read(tmp_path, driver, streams=["stderr"]) == ["err\n"]


def test_attributes_and_times_are_told(tmp_path: Path, driver: str, open_log: Open) -> None:
    open_log().write("stderr", b"x\n")
    with LogReader(tmp_path, ID, driver) as reader:
        (line,) = reader.read()
    assert line.attributes == {"tag": "t"}
    assert line.stream == "stderr"
    assert line.time > 1_700_000_000 * 10**9


def wait(reader: LogReader) -> list[str]:
    """Return the next lines of a followed log, when they come."""
    assert select.select([reader], [], [], 10)[0]
    return [line.line.decode() for line in reader.read()]


def test_a_followed_log_tells_when_there_is_more(
    tmp_path: Path, driver: str, open_log: Open
) -> None:
    log = open_log()
    log.write("stdout", b"first\n")
    with LogReader(tmp_path, ID, driver, tail=0, follow=True) as reader:
        assert reader.read() == []
        assert not select.select([reader], [], [], 0)[0]
        log.write("stdout", b"second\n")
        assert wait(reader) == ["second\n"]
        assert reader.read() == []
        assert not select.select([reader], [], [], 0)[0]


def test_a_log_can_be_followed_before_its_file_is_there(
    tmp_path: Path, driver: str, open_log: Open
) -> None:
    with LogReader(tmp_path, ID, driver, follow=True) as reader:
        assert reader.read() == []
        log = open_log()
        log.write("stdout", b"first\n")
        found: list[str] = []
        while not found:
            found = wait(reader)
        assert found == ["first\n"]


@pytest.mark.parametrize("compress", ["true", "false"])
def test_following_goes_on_across_rotations(
    tmp_path: Path, driver: str, open_log: Open, compress: str
) -> None:
    log = open_log(max_size="1k", max_file="5", compress=compress)
    found: list[str] = []
    with LogReader(tmp_path, ID, driver, follow=True) as reader:
        for number in range(0, 300, 5):
            fill(log, number, number + 5)
            while lines := reader.read():
                found += [line.line.decode() for line in lines]
    assert found == numbers(0, 300)


def test_a_reader_that_lags_finds_the_file_it_was_in(
    tmp_path: Path, driver: str, open_log: Open
) -> None:
    log = open_log(max_size="1k", max_file="5", compress="false")
    fill(log, 0, 3)
    with LogReader(tmp_path, ID, driver, follow=True) as reader:
        found = [line.line.decode() for line in reader.read()]
        fill(log, 3, 40)  # two or three rotations meanwhile
        while lines := reader.read():
            found += [line.line.decode() for line in lines]
    assert found == numbers(0, 40)


def test_a_single_file_that_starts_again_is_followed(
    tmp_path: Path, driver: str, open_log: Open
) -> None:
    log = open_log(max_size="1k", max_file="1", compress="false")
    found: list[str] = []
    with LogReader(tmp_path, ID, driver, follow=True) as reader:
        for number in range(100):
            fill(log, number, number + 1)
            found += [line.line.decode() for line in reader.read()]
    assert found == numbers(0, 100)


def test_a_container_that_never_ran_has_nothing_to_follow(tmp_path: Path, driver: str) -> None:
    with LogReader(tmp_path / "missing", ID, driver, follow=True) as reader:
        assert reader.read() == []
        assert reader.fileno() == -1


def test_the_driver_none_is_done_at_once(tmp_path: Path) -> None:
    with LogReader(tmp_path, ID, "none", follow=True) as reader:
        assert reader.done
        assert reader.read() == []
        assert reader.fileno() == -1
