"""Searching: the API of old that is still spoken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sampan.distribution.credentials import Credentials
from sampan.errors import InvalidArgument, Upstream
from tests.asking import ask
from tests.scripted import Peer, ok, scripted
from tests.tokens import token_server

FOUND = {
    "num_results": 2,
    "results": [
        {"name": "busybox", "description": "all \x1b[31min\n one", "star_count": 5,
         "is_official": True, "is_automated": False, "pull_count": 7},
        {"name": "me/box", "description": None, "star_count": None},
    ],
}  # fmt: skip


def search(address: str, term: str = "box", limit: int = 25, **credentials: Any) -> Any:
    given = Credentials(**credentials)
    return ask(lambda registries: registries.search(f"{address}/{term}", limit, given))


class Hub:
    """Answers to every request with `body`, and keeps the heads."""

    def __init__(self, body: bytes = json.dumps(FOUND).encode(), start: bytes = b"") -> None:
        self.heads: list[str] = []
        self._body, self._start = body, start

    def __call__(self, peer: Peer) -> None:
        if peer.sock.recv(1, 2) == b"\x16":  # MSG_PEEK: a client that begins with TLS
            return
        while head := peer.head():
            self.heads.append(head.decode())
            search = b"/search" in head
            peer.say(self._start if search and self._start else ok(self._body if search else b""))


def test_what_is_found_is_told() -> None:
    hub = Hub()
    with scripted(hub) as server:
        first, second = search(server.address, "box & co")
    assert (first.name, first.star_count, first.is_official) == ("busybox", 5, True)
    assert first.description == "all  [31min  one"
    assert (second.name, second.description, second.star_count) == ("me/box", "", 0)
    assert [head.split(" ")[1] for head in hub.heads] == [
        "/v1/_ping",
        "/v1/search?q=box+%26+co&n=25",
    ]
    assert "X-Docker-Token: true" in hub.heads[1]
    assert "Authorization" not in hub.heads[1]


def test_no_more_is_told_than_was_asked_for() -> None:
    with scripted(Hub()) as server:
        assert len(search(server.address, limit=1)) == 1


def test_credentials_are_shown() -> None:
    hub = Hub()
    with scripted(hub) as server:
        search(server.address, username="u", password="p")
    assert "Authorization: Basic dTpw" in hub.heads[1]


def test_an_identity_token_is_exchanged() -> None:
    with token_server() as tokens:
        tokens.refresh_tokens["refresh"] = "captain"
        challenge = f'WWW-Authenticate: Bearer realm="{tokens.realm}",service="s"'.encode()
        hub = Hub()
        plain = hub._body
        hub._start = ok(plain)

        def script(peer: Peer) -> None:
            if peer.sock.recv(1, 2) == b"\x16":
                return
            while head := peer.head():
                hub.heads.append(head.decode())
                if b" /v2/ " in head:
                    peer.say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n",
                             challenge, b"\r\n\r\n")  # fmt: skip
                else:
                    peer.say(ok(plain))

        with scripted(script) as server:
            search(server.address, username="captain", identity_token="refresh")
        assert tokens.requests[0].scopes == ["registry:catalog:search"]
        assert "Authorization: Bearer " in hub.heads[-1]


@pytest.mark.parametrize(
    ("start", "body", "sentence"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"", "Unexpected status code 404"),
        (b"", b"<html>", "error decoding registry search results"),
        (b"", b'{"results": 5}', "error decoding registry search results"),
        (b"", b"x" * 5_000_000, "larger than"),
    ],
)
def test_a_hub_that_fails_is_told(start: bytes, body: bytes, sentence: str) -> None:
    with scripted(Hub(body, start)) as server, pytest.raises(Upstream, match=sentence):
        search(server.address)


def test_nothing_found_is_no_error() -> None:
    for body in (b"{}", b'{"results": null}', b'{"results": []}'):
        with scripted(Hub(body)) as server:
            assert search(server.address) == []


@pytest.mark.parametrize("limit", [0, 101, -1])
def test_limits_have_limits(limit: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"limit {limit} is outside the range of \[1, 100\]"):
        search("127.0.0.1:1", limit=limit)


def test_a_scheme_is_no_part_of_a_name() -> None:
    with pytest.raises(InvalidArgument, match=r'^Invalid repository name \(ex: "registry.domain'):
        search("http://a.example")


def test_a_registry_that_is_not_there_is_told_as_docker_does() -> None:
    refused = "dial tcp 127.0.0.1:1: connect: connection refused"
    with pytest.raises(Upstream) as caught:
        search("127.0.0.1:1")
    assert str(caught.value) == (
        'invalid registry endpoint "http://127.0.0.1:1/v1/". HTTPS attempt: Get'
        f' "https://127.0.0.1:1/v1/_ping": {refused}. HTTP attempt: Get'
        f' "http://127.0.0.1:1/v1/_ping": {refused}'
    )
    with pytest.raises(Upstream) as caught:
        search("no-such-host.invalid")
    assert str(caught.value).startswith(
        'invalid registry endpoint https://no-such-host.invalid/v1/: Get "https://no-such-host'
    )
    assert "add `--insecure-registry no-such-host.invalid` to the daemon's" in str(caught.value)
