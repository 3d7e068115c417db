"""A daemon, or one part of it, that is killed while its networks change: nothing leaks, all works.

Where exactly it dies is for tests/privileged/test_network_crashes.py, which counts steps.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, running
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

ROUNDS = 2


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running() as made:
        made.import_image()
        yield made


def change(daemon: Daemon) -> None:
    """Make networks, start a container on two of them with a port, and take all away again."""
    for round_ in range(ROUNDS):
        first, second, box = f"first{round_}", f"second{round_}", f"box{round_}"
        for name in (first, second):
            daemon.request("POST", "/networks/create", {"Name": name, "EnableIPv6": True})
        host = {
            "NetworkMode": first,
            "PortBindings": {"80/tcp": [{"HostPort": f"808{round_}"}]},
        }
        body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": host}
        daemon.request("POST", f"/containers/create?name={box}", body)
        daemon.request("POST", f"/containers/{box}/start")
        daemon.request("POST", f"/networks/{second}/connect", {"Container": box})
        daemon.request("POST", f"/networks/{first}/disconnect", {"Container": box})
        if round_ % 2:  # the others stay as they are
            daemon.request("DELETE", f"/containers/{box}?force=1")
            daemon.request("DELETE", f"/networks/{first}")
            daemon.request("DELETE", f"/networks/{second}")


def kill(daemon: Daemon, part: str) -> None:
    """Kill the whole daemon and start it again, or a part, which its supervisor replaces."""
    if part == "daemon":
        daemon.kill()
        daemon.start()
        return
    before = daemon.parts()[part]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: daemon.parts().get(part) not in (None, before))


def test_what_a_helper_starts_holds_nothing_of_it(daemon: Daemon) -> None:
    """Else the end of a helper is not seen, and calls are put where nobody takes them."""
    daemon.request("POST", "/networks/create", {"Name": "named"})
    helper = daemon.parts()["network"]
    resolvers = []

    def is_started() -> bool:
        resolvers.clear()
        for pid in daemon.processes():
            with contextlib.suppress(OSError):  # it has ended
                if b"sampan.helpers.resolver" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    resolvers.append(pid)
        return bool(resolvers)

    eventually(is_started)
    for resolver in resolvers:
        eventually(lambda: not sockets(resolver) & sockets(helper))  # noqa: B023
    daemon.request("DELETE", "/networks/named")


def sockets(pid: int) -> set[str]:
    folder = f"/proc/{pid}/fd"
    found = set()
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"{folder}/{name}"))
    return {it for it in found if it.startswith("socket:")}


@pytest.mark.parametrize("delay", [0.1, 0.4])
@pytest.mark.parametrize("part", ["daemon", "network", "api"])
def test_networks_are_whole_after_a_kill_and_nothing_is_left_after_them(
    daemon: Daemon, part: str, delay: float
) -> None:
    def work() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            change(daemon)

    client = threading.Thread(target=work)
    client.start()
    time.sleep(delay)
    kill(daemon, part)
    client.join()
    eventually(lambda: daemon.request("GET", "/_ping").status == 200)
    becomes_whole(daemon)
    change(daemon)  # all of it can be done, where it was not
    becomes_whole(daemon)
    daemon.remove_containers()
    daemon.request("POST", "/networks/prune")
    assert {it["Name"] for it in daemon.request("GET", "/networks").json} == BUILT_IN
    eventually(lambda: interfaces(daemon) == {"lo", "sampan0"})
    assert "8080" not in rules(daemon)
    state = daemon.folder / "exec" / "network"
    assert list((state / "endpoints").iterdir()) == []


BUILT_IN = {"bridge", "host", "none"}


def output(daemon: Daemon, *command: str) -> str:
    full = [*daemon.enter, *command]
    return subprocess.run(full, check=True, capture_output=True, text=True).stdout


def interfaces(daemon: Daemon) -> set[str]:
    """Return the interfaces of the host, but for those in stock or about to be removed."""
    lines = output(daemon, "ip", "-o", "link").splitlines()
    return {re.split(r"[:@] ?", it)[1].strip() for it in lines if "alias sampan:pool" not in it}


def rules(daemon: Daemon) -> str:
    return output(daemon, "nft", "list", "table", "inet", "sampan")


def becomes_whole(daemon: Daemon) -> None:
    """Wait until what was under way has ended."""

    def is_whole() -> bool:
        with contextlib.suppress(AssertionError, subprocess.CalledProcessError):
            check_whole(daemon)
            return True
        return False

    with contextlib.suppress(AssertionError):
        eventually(is_whole)
    check_whole(daemon)


def check_whole(daemon: Daemon) -> None:
    """Each network has its bridge, each running container its interfaces, and there is no more."""
    networks = daemon.request("GET", "/networks").json
    wanted = {f"br-{it['Id'][:12]}" for it in networks if it["Name"] not in BUILT_IN}
    assert {it for it in interfaces(daemon) if it.startswith("br-")} == wanted
    assert set(re.findall(r"br-[0-9a-f]{12}", rules(daemon))) == wanted
    endpoints = set()
    for container in daemon.request("GET", "/containers/json").json:
        for settings in container["NetworkSettings"]["Networks"].values():
            endpoints.add(settings["EndpointID"])
    shown = output(daemon, "ip", "-o", "link")
    assert set(re.findall(r"alias sampan:([0-9a-f]{64})", shown)) == endpoints - {""}
