"""How `stop` and `restart` ask a container to end, and how long they wait."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag, hidden
from sampan.cli.invocation import Exit


class StopOptions:
    """The flags of both; `signal` is "" for the container's own."""

    changed: set[str]
    signal: str = flag("s", "Signal that asks the process to stop", default="")
    timeout: int = flag("t", "Seconds to wait before killing the container", kind="int")
    time: int = hidden("timeout", "use --timeout instead", kind="int")

    @property
    def seconds(self) -> int | None:
        """How long to wait before it is killed; None for as long as the container says."""
        given = {"time", "timeout"} & self.changed
        if len(given) == 2:
            raise Exit(1, "conflicting options: cannot specify both --timeout and --time")
        return self.timeout if given else None
