"""`sampan system reset`: a machine on which there was an engine is as it was before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, running
from tests.session import cgroups, containers, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]
FORWARDING = "/proc/sys/net/ipv4/ip_forward"


@dataclass
class Machine:
    """A machine with a daemon, and what it was like before."""

    daemon: Daemon
    before: dict[str, object] = field(default_factory=dict)

    def inside(self, *words: str) -> str:
        command = [*self.daemon.enter, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def state(self) -> dict[str, Any]:
        """Return all that an engine changes, of what belongs to this test."""
        inside = str(self.daemon.folder)
        return {
            "interfaces": [it["ifname"] for it in json.loads(self.inside("ip", "-json", "link"))],
            "tables": self.inside("nft", "list", "tables"),
            "forwarding": self.inside("cat", FORWARDING),
            "processes": self.daemon.processes(),
            "mounts": [it for it in Path("/proc/mounts").read_text().split("\n") if inside in it],
            "cgroups": sorted(cgroups()),
            "claim": self.daemon.claim.exists(),
            "folders": sorted(set(os.listdir(inside)) - {"config", "log"}),
        }

    def reset(self, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        command = [*self.daemon.enter, self.daemon.programs["sampan"], "system", "reset", *words]
        environment = {**os.environ, **self.daemon.environment}
        done = subprocess.run(
            command, env=environment, input=answer, capture_output=True, text=True, check=False
        )
        if self.daemon.process and done.stdout.endswith("are left\n"):
            self.daemon.process.wait(30)
        return done

    def roots(self) -> list[str]:
        return [f"--data-root={self.daemon.data_root}", f"--exec-root={self.daemon.folder}/exec"]

    def sampan(self, *words: str) -> str:
        environment = {**os.environ, **self.daemon.environment}
        command = [self.daemon.programs["sampan"], *words]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def fill(self) -> None:
        """Have some of all that an engine can have."""
        self.daemon.import_image()
        self.sampan("network", "create", "harbour")
        long = ["busybox", "sleep", "10000"]
        for words in (
            ["--name", "web", "-p", "127.0.0.1::80", "-v", "cargo:/cargo", *long],
            ["--name", "asleep", "--network", "harbour", "--restart", "always", *long],
            ["--name", "host", "--network", "host", *long],
        ):
            containers.add(self.sampan("run", "-d", *words))
        self.sampan("pause", "asleep")
        containers.add(self.sampan("create", "--name", "idle", "busybox", "true"))
        options = ["--opt", "type=tmpfs", "--opt", "device=tmpfs"]
        self.sampan("volume", "create", *options, "mounted")
        containers.add(self.sampan("run", "-d", "-v", "mounted:/m", *long))


@pytest.fixture
def machine() -> Iterator[Machine]:
    found: list[Machine] = []

    def look(daemon: Daemon) -> None:
        machine = Machine(daemon)
        machine.inside("sh", "-c", f"echo 0 > {FORWARDING}")
        machine.inside("ip", "link", "add", "uplink", "type", "veth", "peer", "far")
        machine.inside("ip", "address", "add", "192.0.2.1/24", "dev", "uplink")
        machine.before = machine.state()
        found.append(machine)

    with running(prepared=look) as daemon:
        yield found[0]
        if daemon.process is None or daemon.process.poll() is not None:
            daemon.images.clear()
            daemon.start()


def test_nothing_is_left(machine: Machine) -> None:
    machine.fill()
    changed, parts = machine.state(), machine.daemon.parts()
    assert all(changed[name] != machine.before[name] for name in changed), changed
    for answer in ("", "n\n", "yes, but\n"):
        refused = machine.reset(answer=answer)
        assert (refused.returncode, refused.stderr) == (0, "")
        assert "all containers, also those that run\n" in refused.stdout
        assert f"the daemon (process {machine.daemon.process.pid})" in refused.stdout  # type: ignore[union-attr]
    kept = machine.state()
    assert [it for it in changed["interfaces"] if it not in kept["interfaces"]] == []
    del changed["interfaces"], kept["interfaces"]  # pairs are prepared for the next containers
    assert machine.daemon.parts() == parts
    del changed["processes"], kept["processes"]  # some are there for a moment only
    assert kept == changed
    done = machine.reset(answer="y\n")
    assert (done.returncode, done.stderr) == (0, "")
    eventually(lambda: machine.state() == machine.before)


def test_an_engine_that_was_killed_goes_with_its_containers_and_nothing_to_go_is_no_error(
    machine: Machine,
) -> None:
    machine.fill()
    machine.daemon.kill()
    more = [f"--host=unix://{machine.daemon.socket}", f"--pidfile={machine.daemon.folder}/pid"]
    done = sampand(*machine.roots(), *more, within=machine.daemon.enter)
    assert done.returncode == 0, done
    eventually(lambda: machine.state() == machine.before)
    done = machine.reset("-f", *machine.roots())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("there is nothing to remove")


def test_a_daemon_that_comes_afterwards_begins_with_nothing(machine: Machine) -> None:
    machine.fill()
    assert machine.reset("-f").returncode == 0
    machine.daemon.images.clear()
    machine.daemon.start()
    assert machine.sampan("ps", "-aq") == machine.sampan("images", "-q") == ""
    machine.daemon.import_image()
    assert machine.sampan("run", "--rm", "busybox", "echo", "anew") == "anew"


def test_what_is_not_ours_stays_and_is_named(machine: Machine) -> None:
    mine = machine.daemon.data_root / "thesis"
    mine.write_text("all of it")
    done = machine.reset("-f")
    assert done.returncode == 0
    assert f"{mine} is left: it is none of Sampan's\n" in done.stdout
    assert mine.read_text() == "all of it"
    assert os.listdir(mine.parent) == ["thesis"]


def sampand(*words: str, within: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [*within, f"{sys.prefix}/bin/sampand", "--reset", "--force", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_folder_that_is_no_data_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "content").mkdir()
    roots = [f"--data-root={tmp_path}", f"--exec-root={tmp_path}/run"]
    done = sampand(*roots)
    assert done.returncode == 1
    assert done.stderr == (
        f"{tmp_path} is no data root of Sampan: engine-id and snapshots would be in it\n"
    )
    assert (tmp_path / "content").is_dir()


def test_another_network_namespace_than_the_daemon_s_is_refused(machine: Machine) -> None:
    done = sampand(*machine.roots())
    assert done.returncode == 1
    assert "the daemon keeps its networks in another network namespace" in done.stderr
    assert machine.sampan("ps", "-q") == ""
