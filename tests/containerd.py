"""A containerd of Debian's with a data root, a socket and, if wanted, a network of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.session import PATIENCE, eventually, scratch
from tests.wire import within

CONFIG = """
version = 2
root = "{home}/root"
state = "{home}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{home}/sock"
[ttrpc]
  address = "{home}/ttrpc"
"""
Ctr = Callable[..., subprocess.CompletedProcess[str]]


@contextlib.contextmanager
def containerd(namespace: str = "") -> Iterator[Ctr]:
    """Run one and yield `ctr`; `namespace` is a network namespace, "" that of this process."""
    home = scratch()  # a socket's path has 108 bytes
    (home / "config.toml").write_text(CONFIG.format(home=home))

    def call(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", f"{home}/sock", *map(str, arguments)]
        with within(namespace):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done

    with open(home / "log", "w") as log, within(namespace):
        command = ["containerd", "--config", str(home / "config.toml")]
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually(lambda: call("version", check=False).returncode == 0)
        yield call
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE)
        shutil.rmtree(home)
