"""Which kernel a test needs: the marker `kernel`, and what this machine has of it.

`@pytest.mark.kernel` alone: the test runs wherever its other markers let it, and also on Debian's
kernel under qemu (`./check --slow`, see tests/machine.py). `@pytest.mark.kernel("apparmor")`: it
needs that feature, and is left out of machines without it; in the emulated one all are there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

LACKS = "needs a kernel with"


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


FEATURES: dict[str, Callable[[], bool]] = {
    "apparmor": lambda: _text("/sys/module/apparmor/parameters/enabled").startswith("Y"),
    "cgroup2": lambda: os.path.exists("/sys/fs/cgroup/cgroup.controllers"),
    "systemd": lambda: os.path.isdir("/run/systemd/system"),
    "swap": lambda: _text("/proc/swaps").count("\n") > 1,
}


def missing(item: pytest.Item) -> list[str]:
    """Return the features that a test names in its marker and this machine lacks."""
    names = {name for mark in item.iter_markers("kernel") for name in mark.args}
    return sorted(name for name in names if not FEATURES[name]())
