"""Logging in: what registries say to names and passwords."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sampan.distribution.credentials import Credentials
from sampan.distribution.login import host_of
from sampan.errors import InvalidArgument, Unauthorized, Upstream
from tests import lying_registry as lies
from tests.asking import ask
from tests.lying_registry import LyingRegistry
from tests.tokens import TokenServer, token_server

CAPTAIN = Credentials("captain", "secret")
WRONG = Credentials("captain", "wrong")


@pytest.fixture
def liar() -> Iterator[LyingRegistry]:
    with lies.lying_registry() as registry:
        yield registry


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with token_server() as server:
        yield server


def login(server: str, credentials: Credentials = CAPTAIN) -> Any:
    return ask(lambda registries: registries.login(server, credentials))


@pytest.mark.parametrize(
    ("server", "host"),
    [("", "docker.io"), ("https://index.docker.io/v1/", "docker.io"), ("docker.io", "docker.io"),
     ("registry-1.docker.io", "docker.io"), ("a.example:5000", "a.example:5000"),
     ("http://a.example/v2/", "a.example")],
)  # fmt: skip
def test_servers_have_many_names(server: str, host: str) -> None:
    assert host_of(server) == host


def test_a_registry_that_asks_for_nothing_lets_everybody_in(liar: LyingRegistry) -> None:
    assert login(liar.address).status == "Login Succeeded"


def test_basic_credentials_are_checked(liar: LyingRegistry) -> None:
    liar.challenge, liar.tokens = 'Basic realm="x"', {"Basic Y2FwdGFpbjpzZWNyZXQ="}
    assert login(f"https://{liar.address}/v2/").status == "Login Succeeded"
    with pytest.raises(Unauthorized) as caught:
        login(liar.address, WRONG)
    told = f"login attempt to http://{liar.address}/v2/ failed with status: 401 Unauthorized"
    assert str(caught.value) == told
    with pytest.raises(Unauthorized, match="no basic auth credentials"):
        login(liar.address, Credentials())


def test_a_token_server_gives_an_identity_token(liar: LyingRegistry, tokens: TokenServer) -> None:
    liar.challenge = f'Bearer realm="{tokens.realm}",service="registry"'
    issue = tokens.token

    def token(user: str, scopes: list[str]) -> str:
        liar.tokens.add(made := issue(user, scopes))
        return made

    tokens.token = token  # type: ignore[method-assign]
    found = login(liar.address)
    assert found.status == "Login Succeeded"
    assert tokens.refresh_tokens == {found.identity_token: "captain"}
    assert tokens.requests[0].offline
    again = login(liar.address, Credentials("captain", identity_token=found.identity_token))
    assert again.status == "Login Succeeded"
    with pytest.raises(Unauthorized) as caught:
        login(liar.address, WRONG)
    sentence = "unauthorized: incorrect username or password"
    assert str(caught.value) == f'Get "http://{liar.address}/v2/": {sentence}'
    with pytest.raises(Unauthorized):
        login(liar.address, Credentials("captain", identity_token="nonsense"))


def test_a_registry_with_a_kind_of_its_own_is_told(liar: LyingRegistry) -> None:
    liar.challenge = "Negotiate"
    with pytest.raises(InvalidArgument, match="no kind of authentication"):
        login(liar.address)


def test_a_registry_that_fails_is_told(liar: LyingRegistry) -> None:
    liar.lie("GET", "", lies.status(404))
    with pytest.raises(Upstream, match=r"failed with status: 404 Not Found$"):
        login(liar.address)
    with pytest.raises(Upstream) as caught:
        login("127.0.0.1:1")
    told = 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    assert str(caught.value) == told


@pytest.mark.parametrize("server", ["http://", "file:///etc/passwd", "/v2/", "ftp://a.example"])
def test_credentials_for_no_address_go_nowhere(server: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid registry address: "):
        login(server)


@pytest.mark.parametrize("server", ["a b", "\x00", "x" * 5000])
def test_what_is_no_server_is_told(server: str) -> None:
    with pytest.raises((InvalidArgument, Upstream)):
        login(server)
