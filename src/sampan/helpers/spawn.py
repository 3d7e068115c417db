"""The spawner: `python -m sampan.helpers.spawn start DATA_ROOT RUN_ROOT UID GID`, or `stop`.

Started when one lives on that run root already, it does nothing. It outlives the daemon; `stop`
ends it only when no container runs. See docs/explanation/architecture/spawner.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; return the exit code."""
    match arguments:
        case ["start", data_root, run_root, uid, gid]:
            from sampan.runtime.confinement.seal import seal

            seal()  # what was loaded before is loaded twice
            from sampan.helpers.spawn_start import start

            return start(Path(data_root), Path(run_root), int(uid), int(gid))
        case ["stop", _, run_root]:
            from sampan.helpers.spawn_stop import stop

            return stop(Path(run_root))  # starts no container: it needs no seal
    sys.stderr.write("usage: sampan.helpers.spawn start DATA_ROOT RUN_ROOT UID GID | stop …\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
