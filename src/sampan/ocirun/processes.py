"""`ps`: the processes of a container."""

from __future__ import annotations

import subprocess
import sys

from sampan.errors import Internal, InvalidArgument
from sampan.ocirun.context import Context
from sampan.ocirun.flags import Arguments, flag
from sampan.ocirun.state import shown
from sampan.runtime.container import Container

FLAGS = (flag("--format -f", "table (default) or json", "FORMAT"),)
USAGE = "CONTAINER [-- PS-OPTION...]"
OPERANDS = (1, None)


def run(context: Context, given: Arguments) -> int:
    """Print the pids as JSON, or the lines of the host's ps(1) that are the container's."""
    pids = Container.load(context.root, given.operands[0]).pids()
    form = given.get("format", "table")
    if form == "json":
        sys.stdout.write(shown(pids) + "\n")
        return 0
    if form != "table":
        raise InvalidArgument("invalid format option")
    sys.stdout.write(filtered(pids, given.operands[1:] or ["-ef"]))
    return 0


def filtered(pids: list[int], options: list[str]) -> str:
    """Return the head of ps's table and the lines of these processes."""
    done = subprocess.run(["ps", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Internal(f"ps: {done.stderr.strip()}")
    head, *lines = done.stdout.splitlines()
    titles = head.split()
    if "PID" not in titles:
        raise InvalidArgument("couldn't find PID field in ps output")
    place, wanted = titles.index("PID"), set(map(str, pids))
    kept = [
        head,
        *(
            line
            for line in lines
            if line.split()[place : place + 1] and line.split()[place] in wanted
        ),
    ]
    return "".join(f"{line}\n" for line in kept)
