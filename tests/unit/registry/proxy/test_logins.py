"""How a cache logs in at its upstream, and who gets to see it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sampan.errors import Unavailable
from sampan.http.urls import Url
from sampan.registry.proxy.logins import HelperLogin, Login
from sampan.registry.proxy.upstreams import Upstream
from tests.caching import caching, upstream
from tests.lying_registry import (
    Answer,
    Handler,
    Lie,
    LyingRegistry,
    lying_registry,
    redirect,
    status,
)
from tests.remote_images import busybox, push
from tests.tokens import token_server


def helper(folder: Path, script: str) -> str:
    path = folder / "docker-credential-test"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def ask(login: Login, times: int = 1) -> list[tuple[str, str, str]]:
    async def main() -> list[tuple[str, str, str]]:
        found = [await login.credentials() for _ in range(times)]
        return [(one.username, one.password, one.identity_token) for one in found]

    return asyncio.run(main())


def test_a_helper_is_asked_for_the_server(tmp_path: Path) -> None:
    script = 'read server; echo "{\\"Username\\": \\"me\\", \\"Secret\\": \\"$1 $server\\"}"'
    login = HelperLogin(helper(tmp_path, script), "https://hub.example", None)
    assert ask(login) == [("me", "get https://hub.example", "")]
    assert not login.is_anonymous


@pytest.mark.parametrize(("lifetime", "calls"), [(None, 1), (1000.0, 1), (0.0, 3)])
def test_an_answer_holds_for_its_lifetime(
    tmp_path: Path, lifetime: float | None, calls: int
) -> None:
    script = f'echo >> {tmp_path}/calls; echo \'{{"Username": "<token>", "Secret": "t"}}\''
    login = HelperLogin(helper(tmp_path, script), "https://hub.example", lifetime)
    assert ask(login, 3) == [("", "", "t")] * 3
    assert len((tmp_path / "calls").read_text().splitlines()) == calls


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "echo [1]"])
def test_a_helper_that_fails_makes_the_upstream_unavailable(tmp_path: Path, script: str) -> None:
    with pytest.raises(Unavailable):
        ask(HelperLogin(helper(tmp_path, script), "https://hub.example", None))
    with pytest.raises(Unavailable):
        ask(HelperLogin(str(tmp_path / "none"), "https://hub.example", None))


def test_a_cache_logs_in_by_tokens(liar: LyingRegistry) -> None:
    with token_server() as tokens:
        shipped = busybox()
        push(liar, "app", "1", shipped)
        liar.challenge = f'Bearer realm="{tokens.realm}",service="registry.test"'
        answered = tokens.answer

        def remember(asked: object) -> dict[str, object]:
            body = answered(asked)  # type: ignore[arg-type]
            liar.tokens.add(str(body["token"]))
            return body

        tokens.answer = remember  # type: ignore[method-assign,assignment]
        known = upstream(liar, login=Login("captain", "secret"))
        with caching(known) as cache:
            assert cache.manifest("app", "1").status == 200
            for blob in shipped.blobs:
                assert cache.blob("app", blob.digest).body == blob.content
        assert {request.user for request in tokens.requests} == {"captain"}
        assert {tuple(request.scopes) for request in tokens.requests} == {("repository:app:pull",)}


def test_a_foreign_token_server_does_not_see_the_password(liar: LyingRegistry) -> None:
    with token_server() as tokens:
        push(liar, "app", "1", busybox())
        realm = tokens.realm.replace("127.0.0.1", "localhost")
        liar.challenge = f'Bearer realm="{realm}",service="registry.test"'
        with caching(upstream(liar, login=Login("captain", "secret"))) as cache:
            answer = cache.manifest("app", "1")
        assert answer.status == 503
        assert "not trusted with their passwords" in answer.json["errors"][0]["message"]
        assert tokens.requests == []


@pytest.mark.parametrize("login", [Login(), Login("captain", "secret")])
@pytest.mark.parametrize("realm", ["http://192.0.2.1/token", "file:///etc/passwd", ""])
def test_who_once_sent_us_nowhere_for_a_token_is_asked_anew(
    liar: LyingRegistry, realm: str, login: Login
) -> None:
    push(liar, "app", "1", busybox())
    liar.challenge = f'Bearer realm="{realm}"'
    with caching(upstream(liar, login=login)) as cache:
        assert cache.manifest("app", "1").status == 503
        liar.challenge = ""
        assert cache.manifest("app", "1").status == 200


def test_a_redirect_does_not_carry_the_password(liar: LyingRegistry) -> None:
    seen: list[tuple[str, str]] = []
    with lying_registry() as other:
        shipped = busybox()
        for one in (liar, other):
            push(one, "app", "1", shipped)
        blob = shipped.layers[0]

        def note(name: str, then: Lie) -> Lie:
            def lie(handler: Handler, answer: Answer) -> Answer | None:
                shown = handler.headers.get("Authorization", "")
                seen.append((name, shown.partition(" ")[0]))
                wanted = name == "liar" and not shown
                return (challenged if wanted else then)(handler, answer)

            return lie

        challenged = status(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"')
        away = redirect(f"{other.url}/v2/app/blobs/{blob.digest}")
        liar.lie("GET", blob.digest, note("liar", away))
        other.lie("GET", blob.digest, note("other", lambda _, answer: answer))
        with caching(upstream(liar, login=Login("captain", "secret"))) as cache:
            assert cache.blob("app", blob.digest).body == blob.content
    assert seen == [("liar", ""), ("liar", "Basic"), ("other", "")]


@pytest.mark.parametrize(
    ("own", "realm", "trusted"),
    [
        ("registry-1.docker.io", "https://auth.docker.io/token", True),
        ("ghcr.io", "https://ghcr.io/token", True),
        ("registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
        ("registry.example.com", "https://tokens.example.org/auth", True),
        ("ghcr.io", "https://evil.io/token", False),
        ("docker.io", "https://evil.io/token", False),
        ("10.0.0.1", "https://10.0.0.2/token", False),
        ("registry-1.docker.io", "https://auth.docker.io.evil.com/token", False),
    ],
)
def test_who_may_see_a_password(own: str, realm: str, trusted: bool) -> None:
    known = Upstream("one", Url.parse(f"https://{own}"), token_hosts=("tokens.example.org",))
    assert known.endpoint.trusts(realm) is trusted
