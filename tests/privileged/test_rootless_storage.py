"""Storage drivers of an ordinary user, who is root in a user namespace only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import REPOSITORY
from tests.in_user_namespace import FIRST
from tests.session import scratch

pytestmark = pytest.mark.privileged


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of that user."""
    if any(not parent.stat().st_mode & 0o001 for parent in (REPOSITORY, *REPOSITORY.parents)):
        pytest.skip("other users cannot read this repository")
    folder = scratch()
    os.chown(folder, FIRST, FIRST)
    yield folder
    shutil.rmtree(folder)


def run(*command: str) -> str:
    """Run a program of this repository as that user; return what it says."""
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.in_user_namespace", sys.executable, *command],
        cwd=REPOSITORY,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["overlay", "fuse-overlayfs", "vfs"])
def test_a_driver_keeps_its_contract_in_a_user_namespace(driver: str, folder: Path) -> None:
    said = run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/tests"),
        *("tests/contract/test_snapshots.py", "-k", f"[{driver}]"),
    )
    counted = re.search(r"([0-9]+) passed", said)
    assert counted, said
    assert int(counted[1]) > 30
    assert "skipped" not in said


@pytest.mark.slow
def test_layers_are_staged_and_committed_in_a_user_namespace(folder: Path) -> None:
    said = run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/tests"),
        "tests/contract/test_staging.py",
    )
    assert " passed" in said


def test_overlay_is_the_choice_and_says_that_its_attributes_are_the_users(folder: Path) -> None:
    said = run(
        "-c",
        "import sys; from pathlib import Path\n"
        "from sampan.storage.linux_mounter import LinuxMounter\n"
        "print(LinuxMounter(Path(sys.argv[1])).driver())",
        str(folder),
    )
    assert "name='overlay'" in said
    assert "('userxattr', 'true')" in said
