"""What only one daemon may use at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sampan.daemon.claims import claim_data_root, claim_network, claim_run_root
from sampan.daemon.flags import UsageError
from tests.session import eventually


@pytest.mark.parametrize(
    ("claim", "sentence"),
    [
        (claim_data_root, "another daemon is using the data root {}"),
        (claim_run_root, "another daemon is using the exec root {}"),
        (claim_network, "another daemon keeps its networks in this network namespace"),
    ],
)
def test_one_claim_at_a_time_and_nothing_is_left_of_it(
    tmp_path: Path, claim: type, sentence: str
) -> None:
    held = claim(str(tmp_path))
    with pytest.raises(UsageError, match=sentence.format(tmp_path)):
        claim(str(tmp_path))
    held.release()
    claim(str(tmp_path)).release()
    assert list(tmp_path.iterdir()) == []


def test_the_claim_of_a_killed_process_is_no_claim(tmp_path: Path) -> None:
    program = "import sys, time; from sampan.daemon.claims import claim_run_root as claim\n"
    program += "held = claim(sys.argv[1]); print(flush=True); time.sleep(1000)"
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"\n"
    with pytest.raises(UsageError):
        claim_run_root(str(tmp_path))
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    other.stdout.close()
    claim_run_root(str(tmp_path)).release()


def test_what_a_killed_supervisor_left_to_its_children_is_waited_for(tmp_path: Path) -> None:
    held = claim_run_root(str(tmp_path))
    (tmp_path / "lock").write_text("0\n")  # nobody has this pid
    claimed: list[bool] = []

    def claim() -> None:
        claim_run_root(str(tmp_path)).release()
        claimed.append(True)

    waiting = threading.Thread(target=claim)
    waiting.start()
    os.close(held._fd)
    waiting.join(30)
    eventually(lambda: claimed == [True])
