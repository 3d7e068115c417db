"""What only one daemon may use at a time."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sampan.daemon.claims import claim_data_root, claim_network, claim_run_root
from sampan.daemon.configuration.flags import UsageError
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


def test_the_claims_of_killed_daemons_on_networks_that_are_no_more_go(tmp_path: Path) -> None:
    for namespace in (1, 2, 3):
        (tmp_path / f"sampan-network-{namespace}.lock").write_text("1\n")
    (tmp_path / "sampan-network-4.lock").symlink_to(tmp_path / "other")
    (tmp_path / "other").touch()
    with (tmp_path / "sampan-network-2.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        claim = claim_network(str(tmp_path))
        own = f"sampan-network-{os.stat('/proc/self/ns/net').st_ino}.lock"
        there = {"sampan-network-2.lock", "sampan-network-4.lock", "other", own}
        assert {path.name for path in tmp_path.iterdir()} == there
        claim.release()
        assert {path.name for path in tmp_path.iterdir()} == there - {own}


def test_a_claim_that_is_being_swept_is_claimed_anew(tmp_path: Path) -> None:
    """Of many that claim and let go at once, sweeping one another's, one holds it at a time."""
    holders: list[str] = []

    def claim_often(name: str) -> None:
        for _ in range(50):
            try:
                held = claim_network(str(tmp_path))
            except UsageError:
                continue
            holders.append(name)
            assert holders == [name]
            holders.clear()
            held.release()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(claim_often, str(number)) for number in range(4)]:
            done.result()
    assert list(tmp_path.iterdir()) == []


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
