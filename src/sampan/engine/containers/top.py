"""The processes of a container, as ps(1) of the host shows them.

Source: moby daemon/top_unix.go.
"""

from __future__ import annotations

import os
import re
import subprocess

from sampan.engine.blocking import blocking
from sampan.engine.containers.container import Container
from sampan.errors import Conflict, Internal, InvalidArgument, Unsupported
from sampan.linux.cgroups.hierarchy import open_cgroup
from sampan.spec.docker.containers import TopResponse

_RENAMED = re.compile(r"\s+(\S*)=\s*(PID\S*)")
PS_SECONDS = 10


async def top(container: Container, arguments: str = "") -> TopResponse:
    """Return the processes of a running container; `arguments` are those of ps, "-ef" if empty.

    Raises Conflict if it does not run, InvalidArgument for arguments that hide the pid.
    """
    for title, value in _RENAMED.findall(arguments):
        if title != "pid":
            raise InvalidArgument(f'specifying "{title}={value}" is not allowed')
    if container.restarting:
        raise Conflict(
            f"Container {container.id} is restarting, wait until the container is running"
        )
    if not container.running:
        raise Conflict(f"container {container.id} is not running")
    words = (arguments or "-ef").split(" ")
    return await blocking(_list, container.cgroup, words)


def _list(cgroup: str, words: list[str]) -> TopResponse:
    pids = set(open_cgroup(cgroup).pids())
    listed = ",".join(str(pid) for pid in sorted(pids)) or "0"
    found = _ps([*words, f"-q{listed}"])  # -q is fast; not every set of arguments allows it
    if found.returncode:
        found = _ps(words)
    if found.returncode:
        reason = found.stderr.decode("utf-8", "replace").split("\n")[0]
        raise Internal(f"ps: {reason or f'exit status {found.returncode}'}")
    return parse(found.stdout.decode("utf-8", "replace"), pids)


def _ps(words: list[str]) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    try:
        return subprocess.run(
            ["ps", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=PS_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise Unsupported("top needs ps on the host: apt-get install procps") from None
    except subprocess.TimeoutExpired:
        raise Internal("ps: it did not answer in time") from None
    except ValueError as error:  # a NUL among the arguments
        raise InvalidArgument(f"ps: {error}") from None


def parse(output: str, pids: set[int]) -> TopResponse:
    """Return the lines of ps that belong to `pids`; a line of a thread follows its process."""
    head, *lines = output.split("\n")
    titles = head.split()
    if "PID" not in titles:
        raise Internal("Couldn't find PID field in ps output")
    column = titles.index("PID")
    processes = []
    inside = False
    for line in lines:
        fields = line.split(None, len(titles) - 1)
        if len(fields) <= column:
            continue
        if fields[column] != "-":
            if not fields[column].isdecimal():
                raise Internal(f"Unexpected pid '{fields[column]}' in the output of ps")
            inside = int(fields[column]) in pids
        if inside:
            processes.append([*fields[:-1], " ".join(fields[-1].split())])
    return TopResponse(processes=processes, titles=titles)
