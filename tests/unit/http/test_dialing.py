"""How connections come about: names, TLS, proxies."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from typing import Any

import pytest
import trustme

from sampan.http.client import Client, Trust
from sampan.http.faults import (
    BrokenFault,
    CertificateFault,
    DialFault,
    Fault,
    MalformedFault,
    PlainTextFault,
    RefusedProxyFault,
    TimeoutFault,
)
from sampan.http.limits import ClientLimits
from sampan.http.proxies import Proxies
from sampan.http.urls import Url
from tests.scripted import Peer, answering, get, ok, poured, run, scripted


def test_a_refused_connection_is_told_as_go_does() -> None:
    with pytest.raises(DialFault, match=r"^dial tcp 127.0.0.1:1: connect: connection refused$"):
        run(lambda client: get(client, "http://127.0.0.1:1/"))
    with pytest.raises(DialFault, match=r"^dial tcp \[::1\]:1: connect: "):
        run(lambda client: get(client, "http://[::1]:1/"))


def test_a_host_with_several_addresses_is_found_where_it_listens() -> None:
    with scripted(answering(ok(b"x"))) as server:  # on 127.0.0.1, and not on ::1
        assert run(lambda client: get(client, f"http://localhost:{server.port}/")) == b"x"


def test_an_address_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def two(loop: Any, host: str, port: int, **_: Any) -> list[Any]:
        addresses = ("127.0.0.2", "127.0.0.3", "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, port)) for name in addresses]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", two)
    with (
        scripted(answering(ok(b"x"))) as server,
        socket.create_server(("127.0.0.2", server.port), backlog=0) as deaf,
        contextlib.ExitStack() as waiting,
    ):
        for _ in range(4):  # its queue is full: the kernel answers nobody else
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(deaf.getsockname())
        began = time.monotonic()
        limits = ClientLimits(connect_seconds=60.0)
        assert run(lambda c: get(c, f"http://far.example:{server.port}/"), limits=limits) == b"x"
        assert time.monotonic() - began < 20


def test_an_unknown_host_is_told_as_go_does() -> None:
    with pytest.raises(DialFault, match=r"^dial tcp: lookup no-such-host.invalid: "):
        run(lambda client: get(client, "http://no-such-host.invalid/"))
    with pytest.raises(DialFault, match="lookup"):
        run(lambda client: get(client, f"http://{'a' * 64}.invalid/"))


# --- TLS -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> Trust:
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def trust(_: Url) -> ssl.SSLContext:
        return context

    return trust


def test_tls_is_spoken_with_who_is_trusted(authority: trustme.CA) -> None:
    body = os.urandom(1_000_000)
    tls = server_context(authority, "127.0.0.1", "localhost")
    with scripted(answering(ok(b"x"), ok(body)), tls) as server:

        async def work(client: Client) -> None:
            assert await get(client, f"https://{server.address}/") == b"x"
            assert await poured(client, f"https://{server.address}/") == body

        run(work, trust=trusting(authority))
        assert server.connections == 1


def test_an_unknown_authority_is_refused(authority: trustme.CA) -> None:
    tls = server_context(authority, "127.0.0.1")
    with (
        scripted(answering(ok()), tls) as server,
        pytest.raises(CertificateFault, match="x509: certificate signed by unknown authority"),
    ):
        run(lambda client: get(client, f"https://{server.address}/"))


def test_a_certificate_of_somebody_else_is_refused(authority: trustme.CA) -> None:
    tls = server_context(authority, "somebody.example")
    with (
        scripted(answering(ok()), tls) as server,
        pytest.raises(CertificateFault, match=r"x509: certificate is not valid for 127.0.0.1"),
    ):
        run(lambda client: get(client, f"https://{server.address}/"), trust=trusting(authority))


def test_plain_http_on_a_tls_port_is_told_as_go_does() -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(1)
        peer.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        peer.drain()

    with (
        scripted(script) as server,
        pytest.raises(PlainTextFault, match=r"^http: server gave HTTP response to HTTPS client$"),
    ):
        run(lambda client: get(client, f"https://{server.address}/"))


def test_a_server_that_hangs_up_at_tls_has_not_been_reached() -> None:
    for script in (lambda peer: None, lambda peer: peer.sock.recv(1)):
        with scripted(script) as server, pytest.raises(DialFault, match=r"^(EOF|connection reset)"):
            run(lambda client: get(client, f"https://{server.address}/"))


def test_a_handshake_that_never_ends_does() -> None:
    limits = ClientLimits(connect_seconds=0.2)
    with scripted(Peer.wait) as server, pytest.raises(TimeoutFault, match="i/o timeout"):
        run(lambda client: get(client, f"https://{server.address}/"), limits=limits)


def test_a_cut_tls_connection_is_a_fault(authority: trustme.CA) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234")
        peer.sock.shutdown(socket.SHUT_RDWR)  # no close_notify

    tls = server_context(authority, "127.0.0.1")
    for work in (get, poured):
        with scripted(script, tls) as server, pytest.raises(BrokenFault):
            run(
                lambda client: work(client, f"https://{server.address}/"),  # noqa: B023
                trust=trusting(authority),
            )


def test_a_disturbed_tls_connection_is_a_fault_that_may_pass(authority: trustme.CA) -> None:
    def script(peer: Peer) -> None:
        peer.head()
        peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n1234")
        with socket.socket(fileno=os.dup(peer.sock.fileno())) as bare:
            bare.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record with a wrong code
            peer.wait()

    tls = server_context(authority, "127.0.0.1")
    for work in (get, poured):
        with scripted(script, tls) as server, pytest.raises(BrokenFault, match="tls: "):
            run(
                lambda client: work(client, f"https://{server.address}/"),  # noqa: B023
                trust=trusting(authority),
            )


# --- proxies ---------------------------------------------------------------------------------


def test_plain_requests_go_to_the_proxy_with_their_whole_address() -> None:
    heads = []

    def proxy(peer: Peer) -> None:
        heads.append(peer.head())
        peer.say(ok(b"by proxy"))
        peer.drain()

    with scripted(proxy) as server:
        proxies = Proxies(http=f"http://user:p%40ss@{server.address}")
        assert run(lambda client: get(client, "http://far.example/x"), proxies=proxies) == (
            b"by proxy"
        )
    lines = heads[0].split(b"\r\n")
    assert lines[0] == b"GET http://far.example/x HTTP/1.1"
    assert b"Host: far.example" in lines
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz" in lines


def test_tls_goes_through_the_proxy(authority: trustme.CA) -> None:
    heads = []
    tls = server_context(authority, "far.example")

    def proxy(peer: Peer) -> None:
        heads.append(peer.head())
        peer.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with tls.wrap_socket(peer.sock, server_side=True) as inner:
            heads.append(Peer(inner, peer.ending).head())
            inner.sendall(ok(b"inside", b"Connection: close"))

    with scripted(proxy) as server:
        found = run(
            lambda client: get(client, "https://far.example/x"),
            proxies=Proxies(https=server.address),
            trust=trusting(authority),
        )
    assert found == b"inside"
    assert heads[0].startswith(b"CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443")
    assert heads[1].startswith(b"GET /x HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", RefusedProxyFault),
        (b"nonsense\r\n\r\n", MalformedFault),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000, MalformedFault),
    ],
)
def test_a_proxy_may_refuse(answer: bytes, fault: type[Fault]) -> None:
    with scripted(answering(answer)) as server, pytest.raises(fault):
        run(
            lambda client: get(client, "https://far.example/"),
            proxies=Proxies(https=server.address),
        )


def test_a_proxy_that_is_not_there_is_named() -> None:
    with pytest.raises(DialFault, match=r"^proxyconnect tcp: dial tcp 127.0.0.1:1: connect: "):
        run(
            lambda client: get(client, "https://far.example/"),
            proxies=Proxies(https="http://127.0.0.1:1"),
        )
