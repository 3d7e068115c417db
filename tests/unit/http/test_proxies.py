"""Which proxy is asked for which host."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.http.proxies import Proxies

ALL = {"HTTP_PROXY": "http://p:1", "https_proxy": "p:2"}


def test_proxies_are_read_from_capital_and_small_names() -> None:
    proxies = Proxies.from_environment(ALL)
    assert proxies.of("http", "a.example", 80) == "http://p:1"
    assert proxies.of("https", "a.example", 443) == "http://p:2"
    assert Proxies.from_environment({}).of("https", "a.example", 443) == ""


@pytest.mark.parametrize(
    ("rule", "excepted", "asked"),
    [
        ("a.example", ["a.example", "b.a.example", "A.Example."], ["ba.example", "example"]),
        (".a.example", ["b.a.example"], ["a.example"]),
        ("*.a.example", ["b.a.example"], ["a.example"]),
        ("a.example:5000", [], ["a.example"]),
        ("a.example:443", ["a.example"], []),
        ("192.0.2.0/24", ["192.0.2.7"], ["192.0.3.7", "a.example"]),
        ("192.0.2.7", ["192.0.2.7"], ["192.0.2.8"]),
        ("2001:db8::/32, x", ["2001:db8::1", "x"], ["2001:db9::1"]),
        ("*", ["a.example", "192.0.2.7"], []),
        ("", ["localhost", "127.0.0.1", "127.9.9.9", "::1"], ["a.example"]),
    ],
)
def test_no_proxy_leaves_hosts_out(rule: str, excepted: list[str], asked: list[str]) -> None:
    proxies = Proxies.from_environment({**ALL, "NO_PROXY": rule})
    assert [host for host in excepted if proxies.of("https", host, 443)] == []
    assert [host for host in asked if not proxies.of("https", host, 443)] == []


@settings(deadline=None)
@given(rules=st.text(), host=st.text(), port=st.integers(1, 65535))
def test_no_rule_and_no_host_is_an_error(rules: str, host: str, port: int) -> None:
    Proxies.from_environment({**ALL, "NO_PROXY": rules}).of("http", host, port)
