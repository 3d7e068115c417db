"""A reboot: nothing runs any more, no interface, rule, cgroup or file of the run root is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, running
from tests.session import CGROUPS, eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

# The daemon reads there which boot this is.
BOOT_ID = "/proc/sys/kernel/random/boot_id"
WITH_BOOT_ID = f'mount --bind "$0" {BOOT_ID} && exec "$@"'
SERVE = "echo page > /var/www/index.html; exec httpd -f -h /var/www"


class Machine:
    """A machine with one daemon, that can be rebooted."""

    def __init__(self, daemon: Daemon, boot_id: Path) -> None:
        self.daemon, self._boot_id = daemon, boot_id

    def reboot(self) -> None:
        """End all that runs, and take away what does not outlive a reboot; start the daemon."""
        daemon = self.daemon
        shown = [self.inspect(it["Id"]) for it in daemon.request("GET", "/containers/json").json]
        daemon.kill()
        for container in shown:
            with contextlib.suppress(ProcessLookupError):
                os.kill(container["State"]["Pid"], signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", daemon.namespace], check=True)
        subprocess.run(["ip", "netns", "add", daemon.namespace], check=True)
        self._boot_id.write_text(f"{uuid.uuid4()}\n")
        subprocess.run([*daemon.enter, "ip", "link", "set", "lo", "up"], check=True)
        for container in shown:
            eventually(lambda of=container["Id"]: _has_no_cgroups(of))
        shutil.rmtree(daemon.folder / "exec")
        daemon.start()

    def inspect(self, name: str) -> Any:
        return self.daemon.request("GET", f"/containers/{name}/json").json

    def page(self, port: int) -> str:
        curl = ["curl", "-s", "--noproxy", "*", f"http://127.0.0.1:{port}/"]
        return subprocess.run(
            [*self.daemon.enter, *curl], capture_output=True, text=True, check=False
        ).stdout


def _has_no_cgroups(id: str) -> bool:
    """Remove the empty cgroups of a container."""
    for folder, names, _ in os.walk(CGROUPS):
        for name in names:
            if name == id:
                with contextlib.suppress(OSError):
                    os.rmdir(Path(folder, name))
    return not any(id in names for _, names, _ in os.walk(CGROUPS))


@pytest.fixture(params=["nftables", "iptables"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text(Path(BOOT_ID).read_text())
    within = ["unshare", "--mount", "sh", "-c", WITH_BOOT_ID, str(boot_id)]
    with running(f"--firewall-backend={request.param}", within=within) as daemon:
        daemon.import_image()
        yield Machine(daemon, boot_id)


def start(machine: Machine, name: str, policy: str, **more: Any) -> None:
    body = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", SERVE],
        "HostConfig": {"RestartPolicy": {"Name": policy}, **more.pop("host", {})},
        **more,
    }
    made = machine.daemon.request("POST", f"/containers/create?name={name}", body)
    assert made.status == 201, made.body
    started = machine.daemon.request("POST", f"/containers/{name}/start")
    assert started.status == 204, started.body


def _start_guest_before_donor(machine: Machine) -> None:
    """Start a container that shares with one which is younger: it is looked at first."""
    daemon = machine.daemon
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
    always = {"RestartPolicy": {"Name": "always"}}
    daemon.request("POST", "/containers/create?name=donor", body)
    guest = {**body, "HostConfig": {**always, "PidMode": "container:donor"}}
    assert daemon.request("POST", "/containers/create?name=guest", guest).status == 201
    assert daemon.request("DELETE", "/containers/donor").status == 204
    donor = {**body, "HostConfig": always}
    assert daemon.request("POST", "/containers/create?name=donor", donor).status == 201
    for name in ("donor", "guest"):
        assert daemon.request("POST", f"/containers/{name}/start").status == 204


def test_networks_are_there_again_and_containers_whose_policy_says_so(machine: Machine) -> None:
    daemon = machine.daemon
    network = {"Name": "own", "IPAM": {"Config": [{"Subnet": "10.97.0.0/24"}]}}
    assert daemon.request("POST", "/networks/create", network).status == 201
    address = {"own": {"IPAMConfig": {"IPv4Address": "10.97.0.77"}}}
    published = {"80/tcp": [{"HostPort": "8080"}]}
    start(
        machine,
        "kept",
        "always",
        host={"NetworkMode": "own", "PortBindings": published},
        NetworkingConfig={"EndpointsConfig": address},
    )
    start(machine, "plain", "no", host={"PortBindings": {"80/tcp": [{"HostPort": "8081"}]}})
    start(machine, "stopped", "unless-stopped")
    daemon.request("POST", "/containers/stopped/stop?t=0")
    _start_guest_before_donor(machine)
    eventually(lambda: machine.page(8080) == machine.page(8081) == "page\n")
    before = {it["Name"]: (it["Id"], it["IPAM"]) for it in daemon.request("GET", "/networks").json}

    machine.reboot()

    after = {it["Name"]: (it["Id"], it["IPAM"]) for it in daemon.request("GET", "/networks").json}
    assert after == before
    eventually(lambda: machine.page(8080) == "page\n")
    # A process serves a moment before its start is noted: until then it is "restarting".
    for name in ("kept", "guest", "donor"):
        eventually(lambda of=name: machine.inspect(of)["State"]["Status"] == "running")
    kept = machine.inspect("kept")
    pids = [machine.inspect(name)["State"]["Pid"] for name in ("guest", "donor")]
    assert len({os.readlink(f"/proc/{pid}/ns/pid") for pid in pids}) == 1
    assert kept["NetworkSettings"]["Networks"]["own"]["IPAddress"] == "10.97.0.77"
    plain = machine.inspect("plain")
    assert (plain["State"]["Status"], plain["NetworkSettings"]["Ports"]) == ("exited", {})
    assert machine.page(8081) == ""
    assert machine.inspect("stopped")["State"]["Status"] == "exited"
    assert daemon.request("POST", "/containers/plain/start").status == 204
    eventually(lambda: machine.page(8081) == "page\n")
    asked = daemon.request("POST", "/containers/kept/exec", {"Cmd": ["nslookup", "kept"]})
    assert daemon.request("POST", f"/exec/{asked.json['Id']}/start", {}).status == 200
    shown = daemon.request("GET", f"/exec/{asked.json['Id']}/json").json
    assert shown["ExitCode"] == 0
