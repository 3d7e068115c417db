"""The daemon's options about networks: in daemon.json, and in the options file of the service."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import REPOSITORY, Daemon, running

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

FILE = {
    "bridge": "boat0",
    "bip": "10.61.0.1/24",
    "fixed-cidr": "10.61.0.128/25",
    "default-gateway": "10.61.0.9",
    "ipv6": True,
    "fixed-cidr-v6": "fd00:61::/64",
    "mtu": 1400,
    "icc": False,
    "ip": "127.0.0.1",
    "ip-masq": False,
    "dns": ["192.0.2.53"],
    "dns-search": ["example.test"],
    "dns-opts": ["timeout:3"],
    "default-address-pools": [{"base": "10.62.0.0/16", "size": 24}],
    "firewall-backend": "iptables",
}
LINE = (
    "--bip 10.63.0.1/24 --default-address-pool base=10.64.0.0/16,size=26 --mtu=1300 "
    "--dns 192.0.2.54 --dns 192.0.2.55 --ip=127.0.0.2 --iptables=false --ip-forward=false"
)


def on_host(daemon: Daemon, *command: str) -> str:
    full = [*daemon.enter, *command]
    return subprocess.run(full, check=True, capture_output=True, text=True).stdout


def sleeping(daemon: Daemon) -> dict[str, Any]:
    """Return a running container with a published port, as inspect shows it."""
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
    }
    made = daemon.request("POST", "/containers/create", body).json["Id"]
    assert daemon.request("POST", f"/containers/{made}/start").status == 204
    found: dict[str, Any] = daemon.request("GET", f"/containers/{made}/json").json
    return found


def asked_inside(daemon: Daemon, script: str) -> str:
    body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "Tty": True}
    made = daemon.request("POST", "/containers/create", body).json["Id"]
    assert daemon.request("POST", f"/containers/{made}/start").status == 204
    daemon.request("POST", f"/containers/{made}/wait")
    return daemon.request("GET", f"/containers/{made}/logs?stdout=1").body.decode()


LOOK = "cat /etc/resolv.conf; ip -4 route; echo mtu $(cat /sys/class/net/eth0/mtu)"


def test_daemon_json_decides_how_networks_are_made(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps(FILE))
    with running(f"--config-file={file}") as daemon:
        daemon.import_image()
        shown = sleeping(daemon)["NetworkSettings"]
        network = shown["Networks"]["bridge"]
        assert network["IPAddress"] == "10.61.0.128"
        assert network["Gateway"] == "10.61.0.9"
        assert network["GlobalIPv6Address"].startswith("fd00:61::")
        assert shown["Ports"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
        said = asked_inside(daemon, LOOK)
        for words in ("nameserver 192.0.2.53", "search example.test", "options timeout:3"):
            assert words in said
        assert "default via 10.61.0.9 dev eth0" in said
        assert "mtu 1400" in said
        address = on_host(daemon, "ip", "-o", "address", "show", "dev", "boat0")
        assert "10.61.0.1/24" in address
        rules = on_host(daemon, "iptables-save")
        assert "-d 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j DNAT" in rules
        assert "MASQUERADE" not in "".join(
            line for line in rules.splitlines() if "-s 10.61.0.0/24 ! -o" in line
        )
        made = daemon.request("POST", "/networks/create", {"Name": "own"}).json["Id"]
        [config] = daemon.request("GET", f"/networks/{made}").json["IPAM"]["Config"]
        assert config["Subnet"] == "10.62.0.0/24"
        bridge = daemon.request("GET", "/networks/bridge").json["Options"]
        assert bridge["com.docker.network.bridge.enable_icc"] == "false"
        assert bridge["com.docker.network.bridge.enable_ip_masquerade"] == "false"


def service_arguments(options_file: Path) -> list[str]:
    """Return what the service's unit gives to the daemon beside where it listens.

    As systemd does it: the variables of the EnvironmentFile, split at white space with regard to
    quotes. Source: systemd.exec(5), systemd.service(5).
    """
    unit = (REPOSITORY / "packaging/sampan.service").read_text()
    assert "EnvironmentFile=-/etc/default/sampan\n" in unit
    [start] = [it for it in unit.splitlines() if it.startswith("ExecStart=")]
    words = start.removeprefix("ExecStart=/usr/bin/sampand ").split()
    assert words[:2] == ["-H", "fd://"]
    variables = dict(
        "".join(shlex.split(line)).partition("=")[::2]
        for line in options_file.read_text().splitlines()
        if line and not line.startswith("#")
    )
    return [
        each
        for word in words[2:]
        for each in (shlex.split(variables.get(word[1:], "")) if word[0] == "$" else [word])
    ]


def test_the_options_file_of_the_service_does_the_same(tmp_path: Path) -> None:
    file = tmp_path / "sampan"
    template = (REPOSITORY / "packaging/sampan.default").read_text()
    assert service_arguments(REPOSITORY / "packaging/sampan.default") == []
    file.write_text(template.replace('SAMPAND_OPTIONS=""', f'SAMPAND_OPTIONS="{LINE}"'))
    with running(*service_arguments(file)) as daemon:
        on_host(daemon, "sysctl", "-qw", "net.ipv4.ip_forward=0")
        daemon.import_image()
        shown = sleeping(daemon)["NetworkSettings"]
        assert shown["Networks"]["bridge"]["IPAddress"] == "10.63.0.2"
        assert shown["Ports"] == {"80/tcp": [{"HostIp": "127.0.0.2", "HostPort": "8080"}]}
        said = asked_inside(daemon, LOOK)
        assert "nameserver 192.0.2.54\r\nnameserver 192.0.2.55\r\n" in said
        assert "mtu 1300" in said
        assert on_host(daemon, "nft", "list", "tables").strip() == ""
        assert on_host(daemon, "sysctl", "-n", "net.ipv4.ip_forward").strip() == "0"
        made = daemon.request("POST", "/networks/create", {"Name": "own"}).json["Id"]
        [config] = daemon.request("GET", f"/networks/{made}").json["IPAM"]["Config"]
        assert config["Subnet"] == "10.64.0.0/26"


def test_what_cannot_work_ends_the_daemon_by_name_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    root = tmp_path / "root"
    file.write_text(json.dumps({"bip": "10.61.0.1/24", "fixed-cidrs": "10.61.0.0/25"}))
    command = [f"{sys.prefix}/bin/sampand", "--data-root", str(root), "--config-file", str(file)]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert failed.returncode == 1
    assert failed.stderr == (
        f"unable to configure the daemon with file {file}: the following directives don't match "
        "any configuration option: fixed-cidrs\n"
    )
    assert not root.exists()


def test_a_daemon_that_sees_no_cgroups_says_so_at_its_start(tmp_path: Path) -> None:
    root = tmp_path / "root"
    hidden = ["unshare", "--mount", "sh", "-c", 'umount -l /sys/fs/cgroup && exec "$@"', "sh"]
    command = [*hidden, f"{sys.prefix}/bin/sampand", "--data-root", str(root)]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert failed.returncode == 1
    assert failed.stderr.startswith("failed to start daemon: no cgroups are mounted at ")
    assert len(failed.stderr.splitlines()) == 1
    assert not root.exists()
