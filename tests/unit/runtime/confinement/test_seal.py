"""The sealed interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sampan.runtime.confinement import seal

SCRIPT = """
import os, sys
from sampan.runtime.confinement import seal
if sys.argv[1] != 'overlay':
    def refuse(): raise OSError(1, 'refused')
    seal.overlay = refuse
seal.seal()
try:
    os.close(os.open('/proc/self/exe', os.O_WRONLY))
    writable = True
except OSError:
    writable = False
print(seal.is_sealed(), writable, os.readlink('/proc/self/exe'), sys.prefix, sys.argv[1:])
"""


@pytest.mark.privileged
@pytest.mark.slow
@pytest.mark.parametrize(("way", "name"), [("overlay", "/python"), ("memory", "/memfd:")])
def test_the_process_goes_on_from_a_file_that_cannot_be_written(way: str, name: str) -> None:
    command = [sys.executable, "-c", SCRIPT, way, "two words"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    sealed, writable, path, *rest = done.stdout.split(maxsplit=3)
    if writable == "True":
        pytest.fail("the interpreter can be opened for writing")
    assert sealed == "True"
    assert path.startswith(name)
    assert sys.prefix in done.stdout
    assert f"['{way}', 'two words']" in done.stdout
    assert rest


def test_this_test_runs_from_an_ordinary_file() -> None:
    assert not seal.is_sealed() or os.readlink("/proc/self/exe").startswith("/")


def test_a_copy_in_memory_is_sealed() -> None:
    fd = seal.memory()
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    assert os.fstat(fd).st_size == os.stat("/proc/self/exe").st_size
    os.close(fd)
