"""The endpoints about registries: what is decoded, what is refused, and when errors come how."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sampan.api.registry_auth import credentials_by_registry
from sampan.distribution.credentials import Credentials
from sampan.distribution.login import Login
from sampan.distribution.manifests import Fetched
from sampan.errors import NotFound, Unauthorized, Upstream
from sampan.http.request import Headers, Request
from sampan.spec.docker.images import ProgressMessage
from sampan.spec.docker.registries import DistributionInspect, SearchItem
from sampan.spec.image import MEDIA_MANIFEST, Descriptor
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference

With = Callable[[Any], None]
DIGEST = "sha256:" + "0" * 64
USER = {"username": "alice", "password": "secret?>"}  # its base64 has - or _


def auth(document: Any = USER, *, padded: bool = True) -> dict[str, str]:
    text = base64.urlsafe_b64encode(json.dumps(document).encode()).decode()
    return {"X-Registry-Auth": text if padded else text.rstrip("=")}


async def messages(*items: ProgressMessage | Exception) -> AsyncIterator[ProgressMessage]:
    for item in items:
        if isinstance(item, Exception):
            raise item
        yield item


def lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.parametrize(
    ("query", "reference"),
    [
        ("fromImage=busybox", "busybox"),
        ("fromImage=busybox:", "busybox"),
        ("fromImage=busybox&tag=1.36", "busybox:1.36"),
        ("fromImage=busybox:1&tag=2", "busybox:2"),
        (f"fromImage=a.example/b&tag={DIGEST}", f"a.example/b@{DIGEST}"),
        (f"fromImage=a.example/b:1&tag={DIGEST}", f"a.example/b@{DIGEST}"),
        (f"fromImage=busybox:1@{DIGEST}", f"busybox:1@{DIGEST}"),
    ],
)
def test_a_pull_takes_the_name_apart_as_docker_does(
    with_api: With, query: str, reference: str
) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.images.answers["pull"] = messages(ProgressMessage(status="done"))
        reply = await api.ask("POST", f"/images/create?{query}")
        assert (reply.status, lines(reply.body)) == (200, [{"status": "done"}])
        assert reply.headers["content-type"] == "application/json"
        ((_, (asked,), options),) = backend.images.calls
        assert asked == Reference.parse(reference)
        assert options == {"platform": None, "credentials": None}

    with_api(client)


def test_a_pull_passes_platform_and_credentials_on(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.images.answers["pull"] = messages()
        await api.ask("POST", "/images/create?fromImage=x&platform=linux/arm64", headers=auth())
        ((_, _, options),) = backend.images.calls
        assert options["platform"] == Platform("linux", "arm64")
        assert options["credentials"] == Credentials("alice", "secret?>")

    with_api(client)


def test_an_error_before_the_first_line_is_the_status(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        # docker's CLI asks for a password at a 401
        for error, status in [(NotFound("a"), 404), (Unauthorized("b"), 500), (Upstream("c"), 500)]:
            backend.images.answers["pull"] = messages(error)
            reply = await api.ask("POST", "/images/create?fromImage=busybox")
            assert (reply.status, reply.message) == (status, str(error))

    with_api(client)


def test_an_error_after_the_first_line_is_the_last_line(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        said = ProgressMessage(status="Pulling from a", id="1")
        backend.images.answers["pull"] = messages(said, Upstream("the registry lies"))
        reply = await api.ask("POST", "/images/create?fromImage=busybox")
        assert reply.status == 200
        assert lines(reply.body) == [
            {"status": "Pulling from a", "id": "1"},
            {"errorDetail": {"message": "the registry lies"}, "error": "the registry lies"},
        ]

    with_api(client)


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("fromImage=scratch", 403, "'scratch' is a reserved name"),
        ("fromImage=a&tag=b/c", 400, "invalid tag format"),
        (
            "fromImage=UPPER",
            400,
            "invalid reference format: repository name (library/UPPER) must be lowercase",
        ),
        (
            "fromImage=a&platform=b/x/y/z",
            400,
            '"b/x/y/z": cannot parse platform specifier: invalid argument',
        ),
    ],
)
def test_a_pull_is_refused_in_dockers_words(
    with_api: With, query: str, status: int, sentence: str
) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask("POST", f"/images/create?{query}")
        assert (reply.status, reply.message) == (status, sentence)
        assert backend.images.calls == []

    with_api(client)


def test_a_push_takes_the_tag_from_the_query(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.images.answers["push"] = lambda *_, **__: messages()
        platform = "platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22arm64%22%7D"
        await api.ask("POST", f"/images/a.example/b/push?tag=1&{platform}", headers=auth())
        await api.ask("POST", "/images/a.example/b/push")
        await api.ask("POST", f"/v1.45/images/a.example/b/push?tag=1&{platform}")
        first, second, third = backend.images.calls
        assert first[1] == (Reference.parse("a.example/b:1"),)
        assert first[2]["platform"] == Platform("linux", "arm64")
        assert first[2]["credentials"] == Credentials("alice", "secret?>")
        assert second[1] == (Reference.parse("a.example/b"),)
        assert third[2]["platform"] is None  # older clients sent it without a meaning

    with_api(client)


def test_a_digest_with_a_tag_cannot_be_pushed(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask("POST", f"/images/a@{DIGEST}/push?tag=1")
        assert (reply.status, reply.message) == (400, "cannot import digest reference")

    with_api(client)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (auth(), Credentials("alice", "secret?>")),
        (auth(padded=False), Credentials("alice", "secret?>")),
        (auth({"identitytoken": "t"}), Credentials(identity_token="t")),
        (auth({"registrytoken": "t"}), Credentials(registry_token="t")),
        (auth({"Username": "alice", "PASSWORD": "p"}), Credentials("alice", "p")),
        (auth({}), None),
        (auth({"username": 1}), None),
        (auth([]), None),
        ({"X-Registry-Auth": "!!!"}, None),
        ({"X-Registry-Auth": "e30"}, None),
        ({"X-Registry-Auth": "bm8ganNvbg=="}, None),
        ({"X-Registry-Auth": ""}, None),
    ],
)
def test_credentials_that_cannot_be_read_count_as_none(
    with_api: With, headers: dict[str, str], expected: Credentials | None
) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.registries.answers["search"] = []
        assert (await api.ask("GET", "/images/search?term=x", headers=headers)).status == 200
        assert backend.registries.calls == [("search", ("x", 0, {}, expected), {})]

    with_api(client)


def test_a_builder_gets_the_credentials_of_several_registries() -> None:
    def given(text: str) -> dict[str, Credentials]:
        items = [(b"x-registry-config", text.encode())]
        return credentials_by_registry(cast(Request, SimpleNamespace(headers=Headers(items))))

    logins = {"a.example": USER, "https://index.docker.io/v1/": {"identitytoken": "t"}}
    text = base64.urlsafe_b64encode(json.dumps(logins).encode()).decode()
    assert given(text) == {
        "a.example": Credentials("alice", "secret?>"),
        "https://index.docker.io/v1/": Credentials(identity_token="t"),
    }
    assert given("") == given("!") == {}


def test_a_search_has_dockers_fields(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.registries.answers["search"] = [
            SearchItem(
                star_count=3, is_official=True, name="n", is_automated=False, description="d"
            )
        ]
        reply = await api.ask("GET", '/images/search?term=x&limit=7&filters={"stars":["2"]}')
        assert reply.json == [
            {
                "star_count": 3,
                "is_official": True,
                "name": "n",
                "is_automated": False,
                "description": "d",
            }
        ]
        assert backend.registries.calls[0][1] == ("x", 7, {"stars": ["2"]}, None)

    with_api(client)


def test_a_login_gives_status_and_token(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.registries.answers["login"] = Login("Login Succeeded", "token")
        body = {**USER, "serveraddress": "a.example", "email": "x", "auth": "y"}
        reply = await api.ask("POST", "/auth", body)
        assert reply.json == {"IdentityToken": "token", "Status": "Login Succeeded"}
        assert backend.registries.calls[0][1] == ("a.example", Credentials("alice", "secret?>"))

    with_api(client)


def test_distribution_inspect_has_dockers_fields(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.registries.answers["inspect"] = DistributionInspect(
            descriptor=Descriptor(media_type="m", digest=DIGEST, size=3)
        )
        reply = await api.ask("GET", "/distribution/a.example/b:1/json")
        assert reply.json == {
            "Descriptor": {"mediaType": "m", "digest": DIGEST, "size": 3},
            "Platforms": None,
        }

    with_api(client)


def test_our_extensions_read_and_write_manifests_and_mount_blobs(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        descriptor = Descriptor(media_type=MEDIA_MANIFEST, digest=DIGEST, size=2)
        backend.registries.answers["manifest"] = Fetched(descriptor, b"{}")
        backend.registries.answers["put_manifest"] = DIGEST
        got = await api.ask("GET", "/distribution/a.example/b:1/manifests")
        assert (got.body, got.headers["content-type"]) == (b"{}", MEDIA_MANIFEST)
        assert got.headers["docker-content-digest"] == DIGEST
        headers = {"Content-Type": MEDIA_MANIFEST, **auth()}
        put = await api.ask("PUT", "/distribution/a.example/b/manifests?tag=2", b"{}", headers)
        assert (put.status, put.headers["docker-content-digest"]) == (201, DIGEST)
        mounted = await api.ask("POST", f"/distribution/b/blobs?digest={DIGEST}&from=c")
        assert mounted.status == 201
        user = Credentials("alice", "secret?>")
        assert backend.registries.calls == [
            ("manifest", ("a.example/b:1", None), {}),
            (
                "put_manifest",
                ("a.example/b", MEDIA_MANIFEST, b"{}"),
                {"tag": "2", "credentials": user},
            ),
            ("mount_blob", ("b", DIGEST, "c", None), {}),
        ]

    with_api(client)
