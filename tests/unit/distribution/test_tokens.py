"""Tokens: how they are asked for, kept, renewed and refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from sampan.distribution.credentials import Credentials
from sampan.distribution.registries import Registries
from sampan.distribution.repository import Repository
from sampan.errors import NotFound, SampanError, Unauthorized, Upstream
from sampan.spec.reference import Reference
from tests import lying_registry as lies
from tests.asking import LIMITS, ask, config, with_repository
from tests.lying_registry import Answer, Handler, LyingRegistry
from tests.remote_images import image, push, small_layer
from tests.scripted import answering, ok, scripted
from tests.tokens import TokenServer, token_server

IMAGE = image(small_layer("a"))
CAPTAIN = Credentials("captain", "secret")


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with token_server() as server:
        yield server


@pytest.fixture
def liar(tokens: TokenServer) -> Iterator[LyingRegistry]:
    """A registry that takes every token of the server for what its scopes say."""
    with lies.lying_registry() as registry:
        push(registry, "app", "1", IMAGE)
        registry.log.clear()
        registry.challenge = f'Bearer realm="{tokens.realm}",service="registry",scope="x"'
        issue = tokens.token

        def token(user: str, scopes: list[str]) -> str:
            made = issue(user, scopes)
            if user:
                registry.tokens.add(made)
            return made

        tokens.token = token  # type: ignore[method-assign]
        yield registry


def manifest(liar: LyingRegistry, credentials: Credentials | None = CAPTAIN) -> Any:
    return with_repository(f"{liar.address}/app", lambda r: r.manifest("1"), credentials)


def test_a_token_is_asked_for_with_name_and_password(
    liar: LyingRegistry, tokens: TokenServer
) -> None:
    assert manifest(liar).descriptor.digest == IMAGE.digest
    (asked,) = tokens.requests
    assert (asked.method, asked.grant, asked.user) == ("GET", "basic", "captain")
    assert asked.scopes == ["repository:app:pull"]
    assert (asked.service, asked.client_id, asked.offline) == ("registry", "docker", False)


def test_an_identity_token_is_exchanged(liar: LyingRegistry, tokens: TokenServer) -> None:
    tokens.refresh_tokens["refresh"] = "captain"
    found = manifest(liar, Credentials(username="captain", identity_token="refresh"))
    assert found.descriptor.digest == IMAGE.digest
    (asked,) = tokens.requests
    assert (asked.method, asked.grant) == ("POST", "refresh_token")


def test_a_registry_token_is_shown_as_it_is(liar: LyingRegistry, tokens: TokenServer) -> None:
    liar.tokens.add("made-elsewhere")
    found = manifest(liar, Credentials(registry_token="made-elsewhere"))
    assert found.descriptor.digest == IMAGE.digest
    assert tokens.requests == []


def test_a_server_without_get_is_asked_by_post(liar: LyingRegistry, tokens: TokenServer) -> None:
    tokens.fields = ("access_token",)
    with lies.lying_registry() as door:

        def only_post(handler: Handler, answer: Answer) -> Answer:
            if handler.command == "GET":
                return Answer(405)
            asked = handler.content.decode()
            reply = tokens.site.ask(
                "POST",
                "/token",
                asked.encode(),
                {"Content-Type": "application/x-www-form-urlencoded"},
            )
            return Answer(reply.status, {}, reply.body)

        door.lie("", "/token", only_post)
        liar.challenge = f'Bearer realm="{door.url}/token",service="registry"'
        assert manifest(liar).descriptor.digest == IMAGE.digest
    assert tokens.requests[0].grant == "password"


def test_a_token_serves_until_it_expires(liar: LyingRegistry, tokens: TokenServer) -> None:
    async def work(registries: Registries) -> None:
        reference = Reference.parse(f"{liar.address}/app")
        for _ in range(3):
            await registries.repository(reference, CAPTAIN).manifest("1")
        await registries.repository(reference, CAPTAIN, push=True).head("1")

    ask(work)
    assert [asked.scopes for asked in tokens.requests] == [
        ["repository:app:pull"],
        ["repository:app:pull,push"],
    ]


def test_many_at_once_ask_for_one_token(liar: LyingRegistry, tokens: TokenServer) -> None:
    async def work(repository: Repository) -> None:
        await asyncio.gather(*(repository.manifest("1") for _ in range(10)))

    with_repository(f"{liar.address}/app", work, CAPTAIN)
    assert len(tokens.requests) == 1


def test_a_token_that_the_registry_no_longer_takes_is_renewed(
    liar: LyingRegistry, tokens: TokenServer
) -> None:
    async def work(repository: Repository) -> None:
        await repository.manifest("1")
        liar.tokens.clear()  # as if it had expired there
        await repository.manifest("1")

    with_repository(f"{liar.address}/app", work, CAPTAIN)
    assert len(tokens.requests) == 2


def test_a_token_in_its_last_seconds_is_renewed_before(
    liar: LyingRegistry, tokens: TokenServer
) -> None:
    answer = tokens.answer

    def old(asked: Any) -> dict[str, Any]:
        return {**answer(asked), "expires_in": 60, "issued_at": _ago(55)}

    tokens.answer = old  # type: ignore[method-assign]

    async def work(repository: Repository) -> None:
        await repository.manifest("1")
        await repository.manifest("1")

    with_repository(f"{liar.address}/app", work, CAPTAIN)
    assert len(tokens.requests) == 2
    assert liar.log.count("GET", "manifests") == 3


def _ago(seconds: int) -> str:
    import datetime

    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_wrong_credentials_are_told_as_docker_does(
    liar: LyingRegistry, tokens: TokenServer
) -> None:
    with pytest.raises(Unauthorized) as caught:
        manifest(liar, Credentials("captain", "wrong"))
    sentence = "unauthorized: incorrect username or password"
    assert str(caught.value) == f'Get "http://{liar.address}/v2/": {sentence}'
    with pytest.raises(Unauthorized, match=f"^{sentence}$"):
        with_repository(
            f"{liar.address}/app",
            lambda r: r.put_manifest("1", "x/y", b"{}"),
            Credentials("captain", "wrong"),
            push=True,
        )


def test_a_partial_grant_is_a_denied_pull(liar: LyingRegistry) -> None:
    liar.challenge += ',error="insufficient_scope"'
    with pytest.raises(NotFound) as caught:
        manifest(liar, None)
    assert str(caught.value) == (
        f"pull access denied for {liar.address}/app, repository does not exist or may require"
        " 'docker login': denied: requested access to the resource is denied"
    )


def fails(liar: LyingRegistry) -> SampanError:
    with pytest.raises(SampanError) as caught:
        manifest(liar)
    return caught.value


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{}", "did not include a token"),
        (b"", "did not include a token"),
        (b'{"token": "two words"}', "did not include a token"),
        (b'{"token": "line\\r\\nX-Evil: yes"}', "did not include a token"),
        (b'{"token": "' + b"x" * 2_000_000 + b'"}', "larger than"),
        (b"[" * 100_000, "did not include a token"),
    ],
)
def test_a_token_server_that_gives_none_is_told(
    liar: LyingRegistry, body: bytes, sentence: str
) -> None:
    with scripted(answering(ok(body))) as server:
        liar.challenge = f'Bearer realm="http://{server.address}/token"'
        error = fails(liar)
    assert isinstance(error, Upstream)
    assert sentence in str(error)


@pytest.mark.parametrize("status", [500, 503])
def test_a_token_server_that_fails_is_told(
    liar: LyingRegistry, tokens: TokenServer, status: int
) -> None:
    tokens.fail = status
    assert "failed to fetch the token" in str(fails(liar))
    assert len(tokens.requests) == 5


def test_a_token_server_that_never_answers_is_given_up(liar: LyingRegistry) -> None:
    limits = type(LIMITS)(answer_seconds=0.2)

    async def main() -> None:
        async with Registries(config(limits=limits)) as registries:
            repository = registries.repository(Reference.parse(f"{liar.address}/app"), CAPTAIN)
            with pytest.raises(Upstream, match="timeout awaiting response headers"):
                await repository.manifest("1")

    with scripted(lambda peer: peer.wait()) as server:
        liar.challenge = f'Bearer realm="http://{server.address}/token"'
        asyncio.run(main())


@pytest.mark.parametrize("realm", ["", "nonsense", "ftp://x/", "http://[/"])
def test_a_realm_that_leads_nowhere_is_told(liar: LyingRegistry, realm: str) -> None:
    liar.challenge = f'Bearer realm="{realm}"'
    assert "request for a token" in str(fails(liar))


def test_a_token_server_is_not_followed_elsewhere_with_secrets(
    liar: LyingRegistry, tokens: TokenServer
) -> None:
    with lies.lying_registry() as door:
        door.lie("GET", "/token", lies.redirect(f"{tokens.realm}?service=registry"))
        liar.challenge = f'Bearer realm="{door.url}/token",service="registry"'
        fails(liar)
    assert {asked.grant for asked in tokens.requests} == {"anonymous"}


def test_a_login_in_a_body_is_not_taken_elsewhere(liar: LyingRegistry, tokens: TokenServer) -> None:
    moved = f"HTTP/1.1 307 x\r\nLocation: {tokens.realm}\r\nContent-Length: 0\r\n\r\n".encode()
    with scripted(answering(moved)) as door:
        liar.challenge = f'Bearer realm="http://{door.address}/token",service="registry"'
        with pytest.raises(Upstream, match="refused to take a login on to"):
            manifest(liar, Credentials(username="captain", identity_token="refresh"))
    assert tokens.requests == []


def test_basic_credentials_are_shown(liar: LyingRegistry) -> None:
    liar.challenge, liar.tokens = 'Basic realm="x"', {"Basic Y2FwdGFpbjpzZWNyZXQ="}
    assert manifest(liar).descriptor.digest == IMAGE.digest
    with pytest.raises(Unauthorized, match=r'^Get "http://.*": no basic auth credentials$'):
        manifest(liar, None)
    with pytest.raises(Unauthorized, match=r"^no basic auth credentials$"):
        with_repository(
            f"{liar.address}/app", lambda r: r.put_manifest("1", "x/y", b"{}"), push=True
        )
    with pytest.raises(Unauthorized, match="unauthorized: authentication required"):
        manifest(liar, Credentials("captain", "wrong"))


def test_a_name_in_capitals_is_the_same_registry(liar: LyingRegistry) -> None:
    liar.challenge, liar.tokens = 'Basic realm="x"', {"Basic Y2FwdGFpbjpzZWNyZXQ="}
    name = f"LOCALHOST:{liar.site.port}/app"
    found = with_repository(name, lambda r: r.manifest("1"), CAPTAIN)
    assert found.descriptor.digest == IMAGE.digest
