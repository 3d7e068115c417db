"""`kill`: send a signal to the init of a container, or to all its processes."""

from __future__ import annotations

import signal

from sampan.errors import InvalidArgument
from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, flag
from sampan.ocirun.selection import selected
from sampan.runtime.container import Container

FLAGS = (
    flag("--all -a", "send the signal to every process of the container"),
    flag("--regex -r", "CONTAINER is a regular expression"),
)
USAGE = "CONTAINER [SIGNAL]"
OPERANDS = (1, 2)


def run(context: Context, given: Arguments) -> int:
    """Send the signal."""
    name = given.operands[1] if len(given.operands) > 1 else "SIGTERM"
    number = signal_number(name)
    for each in selected(context.root, given.operands[0], is_pattern=given.has("regex")):
        Container.load(context.root, each).kill(number, everyone=given.has("all"))
    return 0


def signal_number(name: str) -> int:
    """Return a signal by number or name, with or without SIG; raises InvalidArgument."""
    if name.isascii() and name.isdigit():
        number = int(name)
    else:
        short = name.upper().removeprefix("SIG")
        base, sign, offset = short.partition("+") if "+" in short else short.partition("-")
        found = getattr(signal, f"SIG{base}", None) if base.isalnum() else None
        step = int(offset) if offset.isascii() and offset.isdigit() else 0
        number = int(found) + (step if sign != "-" else -step) if found else 0
    if not 0 < number < signal.NSIG:
        raise InvalidArgument(f"unknown signal {name!r}")
    return number
