"""Browsers where the registry wants tokens."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from starlette.requests import Request

from sampan.registry.auth.access import Everything, Grant, Scope
from sampan.registry.errors import RegistryError
from sampan.registry.tokens.issuer import Asked, Issued
from sampan.registry.web.sign_in import Door, IssuerSignIn, RealmSignIn
from tests.tokens import SERVICE, token_server
from tests.unit.registry.web.conftest import browsing

APP = Scope("repository", "secret/app", ("pull",))
BASIC = "Basic Y2FwdGFpbjpzZWNyZXQ="  # captain:secret


class Bearers:
    """Grants what the token is called."""

    def blocks(self, request: Request) -> bool:
        return False

    def authorize(self, request: Request, wanted: Sequence[Scope], needed: Scope | None) -> Grant:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind == "Bearer" and token in ("all", f"only {needed}"):
            return Everything(token)
        raise RegistryError("UNAUTHORIZED", headers={"WWW-Authenticate": 'Bearer realm="x"'})


class Tokens:
    """Gives tokens; counts how often it is asked."""

    def __init__(self, **tokens: str) -> None:
        self.tokens = tokens
        self.asked: list[tuple[str, str]] = []
        self.addresses: list[str] = []

    def token(
        self, scopes: Sequence[Scope], user: str, password: str, address: str
    ) -> tuple[str, float]:
        self.addresses.append(address)
        self.asked.append((user, password))
        return self.tokens.get(user or "nobody", ""), 300


class Remembering:
    """An issuer that keeps what it was asked."""

    def by_password(self, asked: Asked, name: str, password: str) -> Issued:
        self.asked = asked
        return Issued(name, {"token": "x", "expires_in": 300})


def request(authorization: str = "", address: str = "192.0.2.1") -> Request:
    headers = [(b"authorization", authorization.encode())] if authorization else []
    return Request(
        {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": (address, 1)}
    )


def test_name_and_password_become_a_token_once() -> None:
    tokens = Tokens(captain="all")
    door = Door(Bearers(), tokens)
    for _ in range(3):
        assert door.grant(request(BASIC), APP).user == "all"
    assert tokens.asked == [("captain", "secret")]
    assert door.admitted(request(BASIC), APP).headers["authorization"] == "Bearer all"


def test_who_guesses_at_the_pages_makes_nobody_else_wait() -> None:
    tokens = Tokens(captain="all")
    door = Door(Bearers(), tokens)
    for address in ("192.0.2.1", "2001:db8::1"):
        with pytest.raises(RegistryError, match="UNAUTHORIZED"):
            door.grant(request("Basic Ym9iOndyb25n", address), APP)
    assert tokens.addresses == ["192.0.2.1", "2001:db8::1"]
    issuer = Remembering()
    IssuerSignIn(issuer, SERVICE).token([APP], "captain", "secret", "192.0.2.1")  # type: ignore[arg-type]
    assert issuer.asked.address == "192.0.2.1"


def test_nobody_in_particular_gets_what_is_for_everybody() -> None:
    door = Door(Bearers(), Tokens(nobody="all"))
    assert door.grant(request(), APP).user == "all"


@pytest.mark.parametrize(
    ("tokens", "authorization", "code"),
    [
        (Tokens(), "", "UNAUTHORIZED"),
        (Tokens(nobody="little"), "", "UNAUTHORIZED"),
        (Tokens(), BASIC, "UNAUTHORIZED"),
        (Tokens(captain="little"), BASIC, "DENIED"),
        (Tokens(), "Bearer made-up", "UNAUTHORIZED"),
    ],
)
def test_who_has_to_say_who_they_are_and_who_has_said_it(
    tokens: Tokens, authorization: str, code: str
) -> None:
    with pytest.raises(RegistryError, match=code):
        Door(Bearers(), tokens).grant(request(authorization), APP)


def test_a_token_server_is_asked_as_clients_ask_it() -> None:
    with token_server("", {"captain": "secret"}) as server:
        sign_in = RealmSignIn(server.realm, SERVICE)
        assert sign_in.token([APP], "captain", "secret", "")[0].count(".") == 2
        assert sign_in.token([APP], "captain", "wrong", "") == ("", 0)
    with pytest.raises(RegistryError, match="the token server gives no token"):
        sign_in.token([APP], "captain", "secret", "")


def test_pages_ask_browsers_for_name_and_password() -> None:
    with browsing(access=Bearers(), sign_in=Tokens(captain="all")) as browser:
        answer = browser.get("/ui/")
        assert answer.status == 401
        assert answer.header("www-authenticate").startswith("Basic realm=")
        assert browser.get("/ui/", authorization=BASIC).status == 200
    with browsing(access=Bearers(), sign_in=Tokens(captain="little")) as browser:
        assert browser.get("/ui/", authorization=BASIC).status == 403
