"""ps of the host, cut down to one container."""

from __future__ import annotations

import asyncio

import pytest

from sampan.engine.containers.top import parse, top
from sampan.errors import Conflict, Internal, InvalidArgument
from tests.unit.engine.fakes import container

OUTPUT = """UID   PID  PPID CMD
root   10     1 sh -c  sleep   100
root   11    10 sleep 100
root   99     1 other
"""


def test_only_the_container_s_processes_are_shown_with_the_command_in_one_column() -> None:
    found = parse(OUTPUT, {10, 11})
    assert found.titles == ["UID", "PID", "PPID", "CMD"]
    assert found.processes == [
        ["root", "10", "1", "sh -c sleep 100"],
        ["root", "11", "10", "sleep 100"],
    ]


def test_threads_belong_to_the_process_above_them() -> None:
    output = "PID LWP CMD\n10 - sh\n- 12 sh\n99 - x\n- 98 x\n"
    assert [line[1] for line in parse(output, {10}).processes] == ["-", "12"]


def test_a_listing_without_pids_is_refused() -> None:
    with pytest.raises(Internal, match="Couldn't find PID field in ps output"):
        parse("USER CMD\nroot sh\n", {1})


def test_arguments_that_pass_something_off_as_the_pid_are_refused() -> None:
    made = container(running=True)
    with pytest.raises(InvalidArgument, match='specifying "ppid=PID" is not allowed'):
        asyncio.run(top(made, "-o ppid=PID"))


def test_a_container_at_rest_has_no_processes() -> None:
    made = container()
    with pytest.raises(Conflict, match=f"container {made.id} is not running"):
        asyncio.run(top(made))
