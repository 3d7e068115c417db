from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from sampan.registry.auth.token import Token, TrustedFiles
from sampan.registry.registry import Registry
from sampan.registry.tokens.accounts import Accounts
from sampan.registry.tokens.application import TokenApplication
from sampan.registry.tokens.issuer import Issuer, Terms
from sampan.registry.tokens.keys import KeyRing
from sampan.registry.tokens.rules import Identity, Rule
from sampan.registry.tokens.sessions import Sessions
from sampan.registry.tokens.throttle import Attempts, Throttle
from tests.own_registry import Answer, Shop, serving

PATH = "/auth/token"


class Desk:
    """Asks a token service."""

    def __init__(self, application: TokenApplication, folder: Path) -> None:
        self.shop = Shop(application)  # type: ignore[arg-type]
        self.folder = folder

    def get(self, query: str = "service=hub", login: str = "") -> Answer:
        return self.shop.ask("GET", f"{PATH}?{query}", headers=basic(login) if login else {})

    def post(self, place: str = "", **form: str) -> Answer:
        form = {"service": "hub", "client_id": "test", **form}
        body = urlencode({k: v for k, v in form.items() if v != "-"}).encode()
        return self.shop.ask("POST", PATH + place, body, FORM)

    def claims(self, answer: Answer) -> Any:
        assert answer.status == 200, answer.body
        token = answer.json["access_token"]
        keys = TrustedFiles("", str(self.folder / "keys/jwks.json"))
        key = keys.key(jwt.get_unverified_header(token))
        assert key
        return jwt.decode(token, key, ["ES256"], audience="hub", issuer="desk")

    def access(self, answer: Answer) -> list[str]:
        return [
            f"{item['type']}:{item['name']}:{','.join(item['actions'])}"
            for item in self.claims(answer)["access"]
        ]


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def basic(login: str) -> Mapping[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def issuer(book: Accounts, folder: Path) -> Issuer:
    terms = Terms("desk", ["hub", "other"], 300)
    ring = KeyRing(folder / "keys", "ES256", 300, 0)
    throttle = Throttle(Attempts(3, 10), Attempts(10, 1))
    return Issuer(terms, book, ring, Sessions(book, 1000, False), throttle)


@pytest.fixture
def desk(book: Accounts, tmp_path: Path) -> Iterator[Desk]:
    book.add_user("alice", "secret")
    book.add_rule(Rule.parse("users", "repository", "$user/**", "all"))
    book.add_rule(Rule.parse("everybody", "repository", "public/*", "pull"))
    application = TokenApplication(issuer(book, tmp_path), PATH)
    try:
        yield Desk(application, tmp_path)
    finally:
        application.close()


def test_docker_asks_by_get(desk: Desk) -> None:
    query = (
        "account=alice&client_id=docker&offline_token=true&service=hub"
        "&scope=repository:alice/app:pull,push+repository:bob/app:pull&scope=repository:public/x:pull"
    )
    answer = desk.get(query, "alice:secret")
    assert desk.access(answer) == ["repository:alice/app:pull,push", "repository:public/x:pull"]
    claims = desk.claims(answer)
    assert (claims["sub"], claims["aud"], claims["iss"]) == ("alice", "hub", "desk")
    assert claims["exp"] - claims["iat"] == 300
    assert answer.json["token"] == answer.json["access_token"]
    assert answer.json["expires_in"] == 300
    assert answer.json["issued_at"].endswith("Z")
    assert answer.json["refresh_token"]
    assert answer.header("cache-control") == "no-store"
    assert "refresh_token" not in desk.get("service=hub", "alice:secret").json


def test_nobody_in_particular_gets_what_everybody_may(desk: Desk) -> None:
    scopes = "scope=repository:public/x:pull,push&scope=repository:alice/app:pull"
    answer = desk.get(f"service=hub&offline_token=true&{scopes}")
    assert desk.access(answer) == ["repository:public/x:pull"]
    assert desk.claims(answer)["sub"] == ""
    assert "refresh_token" not in answer.json


@pytest.mark.parametrize("login", ["alice:wrong", "bob:secret", "alice:", ":", "alice:secret\0"])
def test_a_wrong_password_is_401(desk: Desk, login: str) -> None:
    answer = desk.get("service=hub", login)
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    assert answer.header("www-authenticate").startswith("Basic realm=")
    name, _, password = login.partition(":")
    answer = desk.post(grant_type="password", username=name, password=password)
    assert (answer.status, answer.json["error"]) == (401, "invalid_grant")


def test_containerd_asks_by_post(desk: Desk) -> None:
    answer = desk.post(
        grant_type="password", username="alice", password="secret", access_type="offline",
        scope="repository:alice/app:pull,push repository:public/x:pull",
    )  # fmt: skip
    assert desk.access(answer) == ["repository:alice/app:pull,push", "repository:public/x:pull"]
    assert answer.json["scope"] == "repository:alice/app:pull,push repository:public/x:pull"
    refresh = answer.json["refresh_token"]
    scope = "repository:alice/app:pull"
    answer = desk.post(grant_type="refresh_token", refresh_token=refresh, scope=scope)
    assert desk.access(answer) == [scope]
    assert desk.claims(answer)["sub"] == "alice"
    wrong = desk.post(grant_type="refresh_token", refresh_token=refresh, service="other")
    assert wrong.status == 401
    assert desk.post("/revoke", token="nonsense").status == 200
    assert desk.post("/revoke", token=refresh).status == 200
    answer = desk.post(grant_type="refresh_token", refresh_token=refresh, scope=scope)
    assert (answer.status, answer.json["error"]) == (401, "invalid_grant")
    assert "log in again" in answer.json["error_description"]


def test_who_is_shut_out_gets_nothing_for_an_old_login(desk: Desk, book: Accounts) -> None:
    refresh = desk.get("service=hub&offline_token=true", "alice:secret").json["refresh_token"]
    book.disable("alice", True)
    assert desk.post(grant_type="refresh_token", refresh_token=refresh).status == 401
    assert desk.get("service=hub", "alice:secret").status == 401


def test_no_login_begins_with_a_password_that_is_changed_meanwhile(
    desk: Desk, book: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = book.check

    def checked(name: str, password: str) -> Identity | None:
        found = check(name, password)
        book.set_password(name, "other")
        return found

    monkeypatch.setattr(book, "check", checked)
    answer = desk.get("service=hub&offline_token=true", "alice:secret")
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    assert book.rows("SELECT * FROM sessions") == []


def test_rules_count_from_the_next_token_on(desk: Desk, book: Accounts) -> None:
    query = "service=hub&scope=repository:team/app:pull"
    assert desk.access(desk.get(query, "alice:secret")) == []
    number = book.add_rule(Rule.parse("user:alice", "repository", "team/*", "pull"))
    assert desk.access(desk.get(query, "alice:secret")) == ["repository:team/app:pull"]
    book.remove_rule(number)
    assert desk.access(desk.get(query, "alice:secret")) == []


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": "-"}, 400, "invalid_request"),
        ({"grant_type": "password", "service": "-"}, 400, "invalid_request"),
        ({"grant_type": "password", "client_id": "-"}, 400, "invalid_request"),
        ({"grant_type": "password", "service": "nobody"}, 400, "invalid_request"),
        ({"grant_type": "authorization_code"}, 400, "unsupported_grant_type"),
        ({"grant_type": "password", "scope": " ".join(map(str, range(101)))}, 400, "invalid_scope"),
        ({"grant_type": "password", "scope": "x" * 70_000}, 413, "invalid_request"),
        ({"grant_type": "refresh_token"}, 401, "invalid_grant"),
    ],
)
def test_a_form_that_asks_wrongly_is_told_why(
    desk: Desk, form: dict[str, str], status: int, error: str
) -> None:
    answer = desk.post(**form)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert answer.json["errors"][0]["message"] == answer.json["error_description"] != ""


def test_what_is_no_form_is_refused(desk: Desk) -> None:
    ask = desk.shop.ask
    assert ask("POST", PATH, b"{}", {"Content-Type": "application/json"}).status == 400
    assert ask("POST", PATH, b"\xff=\xff", FORM).status == 400
    assert ask("POST", PATH, b"&".join([b"a=b"] * 1000), FORM).status == 400
    assert ask("PUT", PATH).status == 405
    assert ask("GET", PATH + "/none").status == 404
    assert ask("GET", "/v2/").status == 404
    assert ask("GET", f"{PATH}?service=hub", headers={"Authorization": "Bearer x"}).status == 401
    assert desk.get("service=nobody").status == 400
    assert desk.get("").status == 400


def test_who_guesses_has_to_wait(desk: Desk) -> None:
    for _ in range(3):
        assert desk.get("service=hub", "alice:wrong").status == 401
    answer = desk.get("service=hub", "alice:secret")
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert 0 < int(answer.header("retry-after")) <= 11
    assert desk.get("service=hub").status == 200
    for _ in range(7):
        desk.post(grant_type="refresh_token", refresh_token="x.y")
    assert desk.post(grant_type="refresh_token", refresh_token="x.y").status == 429


def test_accounts_that_are_away_are_503(
    desk: Desk, book: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.close()
    answer = desk.get("service=hub", "alice:secret")
    assert (answer.status, answer.code) == (503, "UNAVAILABLE")


def test_the_keys_can_be_fetched(desk: Desk) -> None:
    answer = desk.shop.get(PATH + "/keys")
    assert answer.body == (desk.folder / "keys/jwks.json").read_bytes()
    assert desk.shop.ask("HEAD", PATH + "/keys").status == 200


def test_a_registry_beside_it_takes_its_tokens(book: Accounts, tmp_path: Path) -> None:
    book.add_user("alice", "secret")
    book.add_rule(Rule.parse("users", "repository", "$user/**", "all"))
    made = issuer(book, tmp_path)
    access = Token(PATH, "hub", "desk", TrustedFiles(str(tmp_path / "keys/root.pem"), ""))
    with Registry.in_memory() as registry, serving(registry, access=access) as shop:
        application = TokenApplication(made, PATH, shop.application)
        desk = Desk(application, tmp_path)
        assert desk.shop.get("/v2/").status == 401
        query = "service=hub&scope=repository:alice/app:pull,push"
        token = desk.get(query, "alice:secret").json["token"]
        for name, status in (("alice/app", 202), ("bob/app", 401)):
            url = f"/v2/{name}/blobs/uploads/"
            answer = desk.shop.ask("POST", url, headers={"Authorization": f"Bearer {token}"})
            assert answer.status == status
        application.close()


def test_what_is_no_request_is_not_answered(desk: Desk) -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError

    asyncio.run(desk.shop.application({"type": "websocket", "path": PATH}, never, never))
