"""A wire between the network namespaces of a test: a switch, which is itself one more machine."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from sampan.network.sandbox import inside
from tests.session import unique


def ip(namespace: str, line: str) -> str:
    """Run one command of iproute2 in a namespace of a name, and return what it prints."""
    command = ["nsenter", f"--net=/run/netns/{namespace}", "ip", *line.split()]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def fetch(namespace: str, address: str, port: int = 80, timeout: float = 2.0) -> str:
    """Return the page that a server shows to a machine, "" if nobody answers."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with inside(descriptor):
            client = socket.create_connection((address, port), timeout=timeout)
        with client, client.makefile("rb") as answer:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return answer.read().decode().partition("\r\n\r\n")[2].strip()
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def connect(host: str, switch: str, interface: str = "em1") -> None:
    """Give a namespace an interface that is up and leads to a switch."""
    port = f"port{ip(switch, '-o link show').count('port')}"
    ip(host, f"link add {interface} type veth peer name {port} netns {switch}")
    ip(switch, f"link set {port} master sw0 up")
    ip(host, f"link set {interface} up")


@contextmanager
def switch(address: str, *hosts: str, interface: str = "em1") -> Iterator[str]:
    """Give each namespace of `hosts` an interface that is up and leads to a switch.

    Yields the switch's own namespace, where `address` (192.168.7.6/20) is that of its bridge.
    """
    namespace = unique()
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        ip(namespace, "link set lo up")
        ip(namespace, "link add sw0 type bridge")
        ip(namespace, f"addr add {address} dev sw0")
        ip(namespace, "link set sw0 up")
        for host in hosts:
            connect(host, namespace, interface)
        yield namespace
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)
