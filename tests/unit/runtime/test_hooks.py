"""Hooks: programs with the state on stdin."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.runtime import hooks
from sampan.spec.runtime import Hook, State
from tests.session import eventually

STATE = hooks.encode_state(
    State(
        oci_version="1.2.1", id="x", status="creating", pid=7, bundle="/b", annotations={"a": "b"}
    )
)


def shell(script: str, timeout: int | None = None) -> Hook:
    return Hook(path="/bin/sh", args=["sh", "-c", script], env=["A=b"], timeout=timeout)


def test_a_hook_reads_the_state_and_has_only_its_environment(tmp_path: Path) -> None:
    hooks.run_all(
        "prestart", hooks.prepare([shell(f"cat >{tmp_path}/s; env >{tmp_path}/e")]), STATE
    )
    assert (tmp_path / "s").read_bytes() == STATE
    assert "A=b" in (tmp_path / "e").read_text().splitlines()
    assert "HOME=" not in (tmp_path / "e").read_text()


def test_a_hook_that_does_not_read_is_no_failure() -> None:
    hooks.run_all("prestart", hooks.prepare([shell("exec <&-; true")]), STATE * 10000)


def test_a_hook_that_does_not_read_kills_nobody() -> None:
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in a supervisor
        hooks.run_all("prestart", hooks.prepare([shell("exec <&-; true")]), STATE * 10000)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (
            shell("echo words; exit 3"),
            "error running poststart hook #1: exit status 3, output: words",
        ),
        (shell("kill -9 $$"), "signal 9"),
        (Hook(path="/no/such"), "exec /no/such: no such file or directory"),
    ],
)
def test_the_first_failure_stops_and_is_named(hook: Hook, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        hooks.run_all("poststart", hooks.prepare([shell("true"), hook, shell("touch /x")]), STATE)
    assert message in str(caught.value)


@pytest.mark.slow
def test_a_hook_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    child = ""
    for timeout in (1, 4, 16):  # a busy machine may not have got to the shell in a second
        (tmp_path / "pid").touch()
        slow = shell(f"sleep 1000 & echo $! > {tmp_path}/pid; wait", timeout=timeout)
        with pytest.raises(InvalidArgument, match="context deadline exceeded"):
            hooks.run_all("prestart", hooks.prepare([slow]), STATE)
        if child := (tmp_path / "pid").read_text().strip():
            break
    assert child
    eventually(lambda: not Path(f"/proc/{child}/exe").exists())


def test_much_output_does_not_block_a_hook() -> None:
    hooks.run_all("prestart", hooks.prepare([shell("head -c 300000 /dev/zero")]), STATE)


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="it must be absolute"):
        hooks.prepare([Hook(path="bin/true")])
