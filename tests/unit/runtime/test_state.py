"""state.json and the life cycle that is read from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.errors import Conflict, Internal, InvalidArgument, NotFound
from sampan.runtime import state
from sampan.runtime.container import Container, list_all, reserve
from sampan.runtime.starting.requests import LaunchRequest
from sampan.spec.runtime import Hook, Hooks, Process, Spec


def saved(folder: Path, pid: int) -> None:
    """Write the state of a container whose init is `pid`."""
    spec = Spec(process=Process(args=["true"]), hooks=Hooks(poststop=[Hook(path="/bin/true")]))
    spec.annotations = {"a": "b"}
    request = LaunchRequest(
        id=folder.name, spec=spec, root="/r", bundle="/b", state_dir=str(folder)
    )
    state.claim(str(folder))
    state.save(request, pid, 123)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved(tmp_path / "c", os.getpid())
    loaded = Container.load(str(tmp_path), "c")
    assert (loaded.id, loaded.saved.bundle, loaded.saved.rootfs) == ("c", "/b", "/r")
    assert loaded.status() == "running"
    assert loaded.state().pid == os.getpid()
    assert loaded.saved.poststop == [Hook(path="/bin/true")]
    assert os.stat(tmp_path / "c/state.json").st_mode & 0o777 == 0o600
    assert [each.id for each in list_all(str(tmp_path))] == ["c"]


def test_a_pid_that_was_used_again_is_not_the_container(tmp_path: Path) -> None:
    saved(tmp_path / "c", os.getpid())
    container = Container.load(str(tmp_path), "c")
    container.saved.start_time += 1
    assert container.status() == "stopped"
    with pytest.raises(Conflict, match="container not running"):
        container.kill(0)


def test_a_fifo_says_that_start_is_to_come(tmp_path: Path) -> None:
    saved(tmp_path / "c", os.getpid())
    os.mkfifo(tmp_path / "c/exec.fifo")
    container = Container.load(str(tmp_path), "c")
    assert container.status() == "created"
    with pytest.raises(Conflict, match="has stopped"):  # nobody waits at the other end
        container.start()


def test_a_stopped_container_is_deleted_with_its_state(tmp_path: Path) -> None:
    saved(tmp_path / "c", 2**22 + 1)
    Container.load(str(tmp_path), "c").delete()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_container_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="container c does not exist"):
        Container.load(str(tmp_path), "c")
    assert list(list_all(str(tmp_path / "missing"))) == []


def test_a_broken_state_is_said_and_passed_over_in_lists(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c/state.json").write_text("{")
    with pytest.raises(Internal, match="cannot be read"):
        Container.load(str(tmp_path), "c")
    assert list(list_all(str(tmp_path))) == []


def test_a_state_directory_is_claimed_once(tmp_path: Path) -> None:
    saved(tmp_path / "c", os.getpid())
    with pytest.raises(Conflict, match="already exists: c"):
        state.claim(str(tmp_path / "c"))
    with pytest.raises(Conflict, match="already exists: c"):
        reserve(str(tmp_path), "c")
    with pytest.raises(InvalidArgument):
        reserve(str(tmp_path), "../c")


def test_files_of_others_in_the_directory_stay(tmp_path: Path) -> None:
    saved(tmp_path / "c", 2**22 + 1)
    (tmp_path / "c/other").touch()
    state.remove(str(tmp_path / "c"))
    assert os.listdir(tmp_path / "c") == ["other"]
