"""The servers that the host asks. That questions get there is tested with real traffic."""

from __future__ import annotations

from pathlib import Path

from sampan.network.resolver.forwarding import HostServers, nameservers


def test_at_most_three_servers_are_read_and_what_is_no_address_is_left_out() -> None:
    text = "# one\nnameserver 192.0.2.1\nsearch x\nnameserver here\nnameserver\n"
    text += "nameserver fe80::1%eth0\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n"
    assert nameservers(text) == ["192.0.2.1", "fe80::1%eth0", "192.0.2.3"]


def test_a_change_of_the_file_is_followed_and_its_absence_survived(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    servers = HostServers(path)
    assert servers() == []
    path.write_text("nameserver 192.0.2.1\n")
    assert servers() == ["192.0.2.1"]
    path.write_text("nameserver 192.0.2.22\n")
    assert servers() == ["192.0.2.22"]
    path.unlink()
    assert servers() == ["192.0.2.22"]
