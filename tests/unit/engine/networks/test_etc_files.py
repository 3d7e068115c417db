"""hosts and resolv.conf of containers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.networks import etc_files
from sampan.engine.networks.etc_files import ResolvConf
from sampan.errors import InvalidArgument


def test_a_container_asks_whom_the_host_asks() -> None:
    host = "# a comment\nnameserver 192.0.2.53\nsearch example.org\noptions ndots:2 edns0\n"
    assert etc_files.resolv_conf(host) == (
        b"nameserver 192.0.2.53\nsearch example.org\noptions ndots:2 edns0\n"
    )


@pytest.mark.parametrize(
    "server", ["127.0.0.1", "127.0.0.53", "::1", "fe80::1%eth0", "2001:db8::1"]
)
def test_servers_that_a_container_cannot_reach_are_left_out(server: str) -> None:
    host = f"nameserver {server}\nnameserver 192.0.2.53\n"
    assert etc_files.resolv_conf(host) == b"nameserver 192.0.2.53\n"
    assert etc_files.resolv_conf(f"nameserver {server}\n") == (
        b"nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    )


def test_on_the_host_s_network_its_own_servers_stay() -> None:
    assert etc_files.resolv_conf("nameserver 127.0.0.53\n", is_host_network=True) == (
        b"nameserver 127.0.0.53\n"
    )


def test_what_the_user_wants_goes_first() -> None:
    host = "nameserver 192.0.2.53\nsearch example.org\noptions ndots:2\n"
    assert etc_files.resolv_conf(
        host, dns=["9.9.9.9", "127.0.0.1"], search=["a.test", "b.test"], options=["rotate"]
    ) == (b"nameserver 9.9.9.9\nnameserver 127.0.0.1\nsearch a.test b.test\noptions rotate\n")


def test_where_names_are_resolved_only_our_resolver_is_asked() -> None:
    host = "nameserver 192.0.2.53\nsearch example.org\noptions rotate\n"
    assert etc_files.resolv_conf(host, dns=["192.0.2.1"], is_internal=True) == (
        b"nameserver 127.0.0.11\nsearch example.org\noptions rotate ndots:0\n"
    )
    assert etc_files.resolv_conf(host, options=["ndots:3"], is_internal=True).endswith(
        b" ndots:3\n"
    )


def test_a_dot_switches_the_search_list_off() -> None:
    assert etc_files.resolv_conf("nameserver 192.0.2.1\nsearch x\n", search=["."]) == (
        b"nameserver 192.0.2.1\n"
    )


@given(st.text(max_size=300))
def test_any_host_file_yields_a_nameserver(text: str) -> None:
    assert b"nameserver " in etc_files.resolv_conf(text)


@given(st.text(max_size=300))
def test_what_is_written_is_read_again(text: str) -> None:
    parsed = ResolvConf.parse(etc_files.resolv_conf(text).decode())
    assert ResolvConf.parse(parsed.format().decode()) == parsed


def test_behind_a_stub_resolver_the_servers_it_asks_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\n")
    real.write_text("nameserver 192.0.2.7\n")
    monkeypatch.setattr(etc_files, "RESOLVED", real)
    assert etc_files.read_host_resolv_conf(stub) == "nameserver 192.0.2.7\n"
    assert etc_files.read_host_resolv_conf(tmp_path / "missing") == ""


def test_hosts_has_loopback_extra_names_and_the_container_itself() -> None:
    lines = etc_files.hosts(
        extra=[("db", "10.0.0.9")], own=["172.17.0.2"], hostname="web", domainname="example.org"
    ).decode()
    assert lines.startswith("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
    assert lines.endswith("10.0.0.9\tdb\n172.17.0.2\tweb.example.org web\n")


def test_extra_hosts_are_a_name_and_an_address() -> None:
    assert etc_files.extra_host("db:10.0.0.9") == ("db", "10.0.0.9")
    assert etc_files.extra_host("db:[::1]") == ("db", "::1")
    assert etc_files.extra_host("up:host-gateway", "172.17.0.1") == ("up", "172.17.0.1")


@pytest.mark.parametrize("text", ["db", ":1.2.3.4", "db:nowhere", "db:", "up:host-gateway"])
def test_bad_extra_hosts_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        etc_files.extra_host(text)
