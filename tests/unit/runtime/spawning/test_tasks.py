"""The state files of the spawner."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.runtime.spawner import Streams
from sampan.runtime.spawning.tasks import StateFiles, Task, TaskRecord, boot_id

ID, EXEC = "c" * 64, "e" * 64


def record(exec_id: str = "") -> TaskRecord:
    return TaskRecord(
        id=ID,
        exec_id=exec_id,
        pid=1,
        start_time=2,
        boot_id=boot_id(),
        started_at=3,
        streams=Streams(log_driver="local", log_options={"max-size": "1m"}),
        pipes=(4, 5, 6),
    )


@pytest.fixture
def state(tmp_path: Path) -> StateFiles:
    return StateFiles(tmp_path / "runtime")


def test_what_was_saved_is_loaded(state: StateFiles) -> None:
    state.save(record())
    state.save(record(EXEC))
    assert sorted(state.load(), key=lambda each: each.exec_id) == [record(), record(EXEC)]


def test_a_container_takes_its_execs_along(state: StateFiles) -> None:
    state.save(record())
    state.save(record(EXEC))
    state.remove((ID, EXEC))
    assert list(state.load()) == [record()]
    state.save(record(EXEC))
    state.remove((ID, ""))
    assert list(state.load()) == []


def test_a_damaged_file_is_left_out_and_removed(state: StateFiles, tmp_path: Path) -> None:
    state.save(record())
    damaged = tmp_path / "runtime" / ID / "exec-x.json"
    damaged.write_bytes(b'{"id":')
    assert list(state.load()) == [record()]
    assert not damaged.exists()


def test_an_interrupted_start_is_known_until_it_is_settled(state: StateFiles) -> None:
    state.intend(ID, "/sampan/x")
    assert list(state.unsettled()) == [(ID, "/sampan/x")]
    state.settle(ID)
    assert list(state.unsettled()) == []


def test_containers_share_a_seccomp_filter(state: StateFiles) -> None:
    state.save_seccomp("digest", b"{}")
    state.save_seccomp("digest", b"{}")
    assert state.load_seccomp("digest") == b"{}"
    assert list(state.load()) == []


def test_the_state_follows_from_the_record() -> None:
    task = Task(record())
    assert (task.status().state, task.status().pid) == ("running", 1)
    task.record.frozen = True
    assert task.status().state == "paused"
    task.record.finished_at = 9
    assert (task.status().state, task.status().pid) == ("stopped", 0)


def test_closing_a_task_closes_each_descriptor_once() -> None:
    read, write = os.pipe()
    task = Task(record(), stdin=write, stdout=read)
    task.close()
    task.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
