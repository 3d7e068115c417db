"""Writing the files of a log: pieces, rotation, compression, full disks."""

from __future__ import annotations

import gzip
import json
import os
import resource
import select
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.logs.files import LogWriter, log_path, open_writer

ID = "a" * 64


def writer(folder: Path, driver: str = "json-file", **options: str) -> LogWriter:
    named: Mapping[str, str] = {key.replace("_", "-"): value for key, value in options.items()}
    made = open_writer(folder, ID, driver, named, {}, os.getgid())
    assert made
    return made


def logged(path: Path) -> list[str]:
    return [json.loads(line)["log"] for line in path.read_bytes().splitlines()]


def test_the_file_has_dockers_name_and_mode(tmp_path: Path) -> None:
    writer(tmp_path).close()
    path = tmp_path / f"{ID}-json.log"
    assert path == log_path(tmp_path, ID, "json-file")
    assert path.stat().st_mode & 0o777 == 0o640


def test_none_has_no_files(tmp_path: Path) -> None:
    assert open_writer(tmp_path, ID, "none", {}, {}, 0) is None
    assert log_path(tmp_path, ID, "none") is None


def test_a_line_waits_for_its_end(tmp_path: Path) -> None:
    log = writer(tmp_path)
    assert log.write("stdout", b"one\ntwo") == b"two"
    log.finish("stdout", b"two")
    log.close()
    assert logged(log.path) == ["one\n", "two"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(0, 50_000), max_size=5), st.integers(1, 70_000))
def test_long_lines_are_stored_in_pieces_of_16_kib(
    tmp_path: Path, lengths: list[int], cut: int
) -> None:
    log = writer(tmp_path)
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    rest = b""
    for start in range(0, len(data), cut):
        rest = log.write("stdout", rest + data[start : start + cut])
    log.finish("stdout", rest)
    log.close()
    pieces = logged(log.path)
    log.path.unlink()
    assert "".join(pieces).encode() == data
    assert all(len(piece) <= 16 << 10 for piece in pieces)
    assert len(pieces) == sum(length // (16 << 10) + 1 for length in lengths)


def test_a_piece_does_not_cut_a_character(tmp_path: Path) -> None:
    log = writer(tmp_path)
    text = "é" * 30_000 + "\n"
    log.write("stdout", b"x" + text.encode())
    log.close()
    assert "".join(logged(log.path)) == "x" + text


def test_files_are_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    log = writer(tmp_path, max_size="1k", max_file="3")
    for number in range(100):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{ID}-json.log",
        f"{ID}-json.log.1",
        f"{ID}-json.log.2",
    ]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert logged(log.path)[-1] == "line 99\n"


def test_one_block_does_not_break_a_small_cap(tmp_path: Path) -> None:
    log = writer(tmp_path, max_size="1k", max_file="2")
    log.write("stdout", b"0123456789\n" * 1000)
    log.close()
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())


def test_a_single_file_starts_again(tmp_path: Path) -> None:
    log = writer(tmp_path, max_size="1k")
    for number in range(100):
        log.write("stdout", b"line %d\n" % number)
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == [f"{ID}-json.log"]
    assert logged(log.path)[-1] == "line 99\n"


def compressed(log: LogWriter) -> None:
    """Wait for the child that compresses."""
    assert select.select([log._compressor], [], [], 20)[0]


def test_rotated_files_are_compressed(tmp_path: Path) -> None:
    log = writer(tmp_path, max_size="10k", max_file="3", compress="true")
    for number in range(200):
        log.write("stdout", b"line %d\n" % number)
        if log._compressor >= 0:
            compressed(log)
    log.close()
    packed = Path(f"{log.path}.1.gz")
    assert packed.exists()
    assert not Path(f"{log.path}.1").exists()
    first = json.loads(gzip.decompress(packed.read_bytes()).splitlines()[-1])["log"]
    assert logged(log.path)[0] == f"line {int(first.split()[1]) + 1}\n"


def test_a_rotation_does_not_wait_for_the_compression(tmp_path: Path) -> None:
    log = writer(tmp_path, "local", max_size="10k", max_file="3")
    log.write("stdout", b"0123456789\n" * 10_000)
    if log._compressor >= 0:
        compressed(log)
    log.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    base = f"{ID}-local.log"
    assert {name.removesuffix(".gz") for name in names if not name.endswith(".tmp")} == {
        base,
        f"{base}.1",
        f"{base}.2",
    }


def test_a_full_disk_costs_lines_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import signal

    log = writer(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        for number in range(100):
            assert log.write("stdout", b"line %d\n" % number) == b""
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    log.write("stdout", b"again\n")
    log.close()
    kept = logged(log.path)
    assert kept[:2] == ["line 0\n", "line 1\n"]
    assert kept[-1] == "again\n"
    assert len(kept) < 100
    assert len([record for record in caplog.records if "are lost" in record.message]) == 1


def test_a_cut_entry_is_removed_when_the_log_is_opened_again(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.write("stdout", b"one\n")
    log.close()
    with open(log.path, "ab") as file:
        file.write(b'{"log":"tw')
    again = writer(tmp_path)
    again.write("stdout", b"two\n")
    again.close()
    assert logged(log.path) == ["one\n", "two\n"]


def test_what_is_taken_back_can_be_written_again(tmp_path: Path) -> None:
    log = writer(tmp_path)
    log.write("stdout", b"one\n")
    size = log.size
    log.write("stdout", b"two\n")
    log.truncate(size)
    log.write("stdout", b"three\n")
    log.close()
    assert logged(log.path) == ["one\n", "three\n"]
