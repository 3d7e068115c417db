"""The pipes of a program, and what is settled before it starts."""

from __future__ import annotations

import os

import pytest

from sampan.errors import InvalidArgument
from sampan.runtime.spawner import Streams
from sampan.runtime.spawning.pipes import open_pipes
from sampan.runtime.starting.preparing import make_sources, prepared
from sampan.spec.runtime import Process, Rlimit


def test_without_open_stdin_the_program_reads_nothing() -> None:
    pipes = open_pipes(Streams())
    try:
        assert os.read(pipes.theirs[0], 1) == b""
        assert pipes.ours[0] == -1
    finally:
        pipes.close()


def test_what_the_program_writes_comes_out_on_our_side() -> None:
    pipes = open_pipes(Streams(open_stdin=True))
    try:
        os.write(pipes.theirs[1], b"out")
        os.write(pipes.theirs[2], b"err")
        assert (os.read(pipes.ours[1], 9), os.read(pipes.ours[2], 9)) == (b"out", b"err")
        os.write(pipes.ours[0], b"in")
        assert os.read(pipes.theirs[0], 9) == b"in"
    finally:
        pipes.close()


def test_the_stream_ends_when_the_program_closes_it() -> None:
    pipes = open_pipes(Streams())
    try:
        pipes.close_theirs()
        assert os.read(pipes.ours[1], 9) == b""
    finally:
        pipes.close()


def test_writing_does_not_kill_a_program_whose_reader_is_gone() -> None:
    pipes = open_pipes(Streams())
    os.close(pipes.ours.pop())
    try:
        assert os.write(pipes.theirs[2], b"waits in the pipe") == 17
    finally:
        pipes.close()


def test_a_terminal_needs_no_pipes() -> None:
    pipes = open_pipes(Streams(terminal=True))
    assert pipes.stdio() is None
    pipes.close()


def test_the_spawners_own_limits_and_score_are_not_inherited() -> None:
    process = prepared(Process(args=["x"]), Streams(rows=3, columns=4), (1024, 4096))
    assert process.rlimits == [Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=4096)]
    assert process.oom_score_adj == 0
    assert process.console_size
    assert (process.console_size.height, process.console_size.width) == (3, 4)


def test_what_is_asked_for_stays() -> None:
    limit = Rlimit(type="RLIMIT_NOFILE", soft=7, hard=8)
    process = prepared(Process(args=["x"], rlimits=[limit], oom_score_adj=5), Streams(), (1, 2))
    assert process.rlimits == [limit]
    assert process.oom_score_adj == 5


@pytest.mark.parametrize("process", [None, Process(args=["x"], terminal=True)])
def test_a_process_that_does_not_fit_its_streams_is_refused(process: Process | None) -> None:
    with pytest.raises(InvalidArgument):
        prepared(process, Streams(), (1, 2))


def test_missing_sources_of_binds_are_made(tmp_path: object) -> None:
    make_sources([f"{tmp_path}/a/b", f"{tmp_path}/a/b"])
    assert os.path.isdir(f"{tmp_path}/a/b")
    open(f"{tmp_path}/file", "w").close()
    make_sources([f"{tmp_path}/file"])
    with pytest.raises(InvalidArgument, match="error while creating mount source path"):
        make_sources([f"{tmp_path}/file/below"])
    with pytest.raises(InvalidArgument):
        make_sources(["relative"])
