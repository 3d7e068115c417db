"""The pipes that become the standard streams of a program without a terminal."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from sampan.runtime.spawner import Streams


@dataclass(slots=True)
class Pipes:
    """Both ends of the streams of one task that is being started."""

    theirs: list[int] = field(default_factory=list)  # stdin, stdout, stderr of the program
    ours: list[int] = field(default_factory=list)  # stdin or -1, stdout, stderr
    inodes: tuple[int, int, int] = (0, 0, 0)

    def stdio(self) -> tuple[int, int, int] | None:
        """Return the program's ends; None for a task with a terminal."""
        return (self.theirs[0], self.theirs[1], self.theirs[2]) if self.theirs else None

    def close_theirs(self) -> None:
        """Close what the program has by now."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = []

    def close(self) -> None:
        """Close everything."""
        self.close_theirs()
        for descriptor in self.ours:
            if descriptor >= 0:
                os.close(descriptor)
        self.ours = []


def open_pipes(streams: Streams) -> Pipes:
    """Open the pipes of a task; none if it gets a terminal."""
    pipes = Pipes()
    if streams.terminal:
        return pipes
    try:
        if streams.open_stdin:
            theirs, ours = os.pipe()
        else:
            theirs, ours = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), -1
        pipes.theirs.append(theirs)
        pipes.ours.append(ours)
        for _ in ("stdout", "stderr"):
            ours, theirs = os.pipe()
            pipes.ours.append(ours)
            # The program gets a descriptor that reads too: while both halves of the spawner are
            # gone its writes wait in the pipe, where SIGPIPE would end it.
            pipes.theirs.append(os.open(f"/proc/self/fd/{theirs}", os.O_RDWR | os.O_CLOEXEC))
            os.close(theirs)
    except OSError:
        pipes.close()
        raise
    for descriptor in pipes.ours:
        if descriptor >= 0:
            os.set_blocking(descriptor, False)
    stdin, stdout, stderr = (os.fstat(fd).st_ino if fd >= 0 else 0 for fd in pipes.ours)
    pipes.inodes = (stdin, stdout, stderr)
    return pipes
