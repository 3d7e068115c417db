"""`update`: change the limits of a container."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec

from sampan.errors import InvalidArgument
from sampan.ocirun import bundle as bundles
from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, flag
from sampan.runtime.container import Container
from sampan.spec.runtime import LinuxResources

FLAGS = (
    flag("--resources -r", "JSON document with the changes, - for stdin", "FILE"),
    flag("--memory", "memory limit in bytes", "BYTES"),
    flag("--memory-reservation", "memory reservation in bytes", "BYTES"),
    flag("--memory-swap", "limit of memory and swap in bytes, -1 for none", "BYTES"),
    flag("--kernel-memory", "accepted and ignored, as the kernel does", "BYTES"),
    flag("--kernel-memory-tcp", "limit of TCP buffers in bytes", "BYTES"),
    flag("--cpu-period", "period in microseconds", "N"),
    flag("--cpu-quota", "quota in microseconds", "N"),
    flag("--cpu-burst", "burst in microseconds", "N"),
    flag("--cpu-share", "relative weight", "N"),
    flag("--cpu-rt-period", "real-time period in microseconds", "N"),
    flag("--cpu-rt-runtime", "real-time runtime in microseconds", "N"),
    flag("--cpu-idle", "1 for the idle scheduling class", "N"),
    flag("--cpuset-cpus", "processors to use", "LIST"),
    flag("--cpuset-mems", "memory nodes to use", "LIST"),
    flag("--blkio-weight", "block I/O weight, 10 to 1000", "N"),
    flag("--pids-limit", "number of processes", "N"),
    flag("--l3-cache-schema", "accepted and ignored", "SCHEMA"),
    flag("--mem-bw-schema", "accepted and ignored", "SCHEMA"),
)
USAGE = "CONTAINER"
OPERANDS = (1, 1)

_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


def size(text: str) -> int:
    """Return a number of bytes: `-1`, `1024`, `64m`, `1.5GiB`; raises ValueError."""
    if text == "-1":
        return -1
    lower = text.lower().strip()
    number = lower.rstrip("kmgtpib")
    unit = lower[len(number) :].removesuffix("b").removesuffix("i")
    if unit not in _UNITS or number.startswith("-"):
        raise ValueError(text)
    return int(float(number) * (1 << _UNITS[unit]))


#: Option → place in the document, conversion.
_FIELDS: dict[str, tuple[str, str, Callable[[str], int | str]]] = {
    "memory": ("memory", "limit", size),
    "memory-reservation": ("memory", "reservation", size),
    "memory-swap": ("memory", "swap", size),
    "kernel-memory-tcp": ("memory", "kernelTCP", size),
    "cpu-period": ("cpu", "period", int),
    "cpu-quota": ("cpu", "quota", int),
    "cpu-burst": ("cpu", "burst", int),
    "cpu-share": ("cpu", "shares", int),
    "cpu-rt-period": ("cpu", "realtimePeriod", int),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", int),
    "cpu-idle": ("cpu", "idle", int),
    "cpuset-cpus": ("cpu", "cpus", str),
    "cpuset-mems": ("cpu", "mems", str),
    "blkio-weight": ("blockIO", "weight", int),
    "pids-limit": ("pids", "limit", int),
}


def run(context: Context, given: Arguments) -> int:
    """Change the limits."""
    container = Container.load(context.root, given.operands[0])
    context.warn(container.update(resources(given)))
    return 0


def resources(given: Arguments) -> LinuxResources:
    """Return what the options ask for; with --resources nothing else counts."""
    path = given.get("resources")
    try:
        if path:
            content = sys.stdin.buffer.read(1 << 20) if path == "-" else bundles.read(path)
            return msgspec.json.decode(content, type=LinuxResources)
        return msgspec.convert(_document(given), LinuxResources)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"invalid resources: {error}") from None


def _document(given: Arguments) -> dict[str, dict[str, Any]]:
    document: dict[str, dict[str, Any]] = {}
    for option, (group, name, convert) in _FIELDS.items():
        text = given.get(option)
        if text:
            try:
                document.setdefault(group, {})[name] = convert(text)
            except (ValueError, OverflowError):
                raise InvalidArgument(f"invalid value for {option}: {text!r}") from None
    return document
