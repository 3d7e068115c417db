"""The face as clients see it: versions, headers, errors, and every parameter checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.api.app import router
from sampan.errors import Conflict, Forbidden, NotFound, NotModified, Unavailable
from sampan.spec.docker.containers import CreateResponse

With = Callable[[Callable[[Any, Any], Any]], None]


def test_every_answer_carries_the_standing_headers(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        for path in ("/_ping", "/nothing", "/v1.99/_ping", "/containers/json?limit=x"):
            reply = await api.ask("GET", path)
            assert reply.headers["api-version"] == "1.51"
            assert reply.headers["ostype"] == "linux"
            assert reply.headers["docker-experimental"] == "false"
            assert reply.headers["server"].startswith("Docker/28.")
            assert reply.headers["server"].endswith(" (linux)")

    with_api(client)


def test_ping_answers_get_and_head_with_and_without_a_version(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        for path in ("/_ping", "/v1.24/_ping", "/v1.51/_ping"):
            got = await api.ask("GET", path)
            assert (got.status, got.body) == (200, b"OK")
            head = await api.ask("HEAD", path)
            assert (head.status, head.body) == (200, b"")
            assert head.headers["content-length"] == "0"
            assert head.headers["swarm"] == "inactive"

    with_api(client)


def test_versions_out_of_range_are_refused_in_dockers_words(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        old = await api.ask("GET", "/v1.23/containers/json")
        assert old.status == 400
        assert old.message == (
            "client version 1.23 is too old. Minimum supported API version is 1.24, "
            "please upgrade your client to a newer version"
        )
        new = await api.ask("GET", "/v1.52/containers/json")
        assert new.status == 400
        assert new.message == (
            "client version 1.52 is too new. Maximum supported API version is 1.51"
        )

    with_api(client)


@pytest.mark.parametrize("path", ["/", "/v1.41", "/v1.41/", "/nothing", "/containers", "/swarm/x"])
def test_unknown_paths_are_not_found(with_api: With, path: str) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask("GET", path)
        assert (reply.status, reply.json) == (404, {"message": "page not found"})

    with_api(client)


def test_an_unclean_path_is_redirected_as_dockers_router_does(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask("GET", "/containers//json?all=1")
        assert reply.status == 301
        assert reply.headers["location"] == "/containers/json?all=1"
        assert (await api.ask("GET", "/a/../..//etc%0d%0aX: y")).status in (301, 400, 404)

    with_api(client)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("No such container: web"), 404),
        (Conflict("You cannot remove a running container"), 409),
        (Forbidden("no"), 403),
        (Unavailable("the spawner helper does not answer"), 503),
        (ZeroDivisionError("bug"), 500),
    ],
)
def test_errors_of_the_engine_become_status_and_message(
    with_api: With, error: Exception, status: int
) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.containers.answers["remove"] = error
        reply = await api.ask("DELETE", "/containers/web")
        assert reply.status == status
        assert list(reply.json) == ["message"]
        assert "Traceback" not in reply.message

    with_api(client)


def test_not_modified_has_no_body(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.containers.answers["start"] = NotModified("")
        reply = await api.ask("POST", "/containers/web/start")
        assert (reply.status, reply.body) == (304, b"")

    with_api(client)


def test_create_passes_name_and_body_on(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.containers.answers["create"] = CreateResponse(id="a" * 64)
        body = {"Image": "busybox", "Cmd": "true", "HostConfig": {"Memory": 4 << 20}}
        reply = await api.ask("POST", "/v1.41/containers/create?name=web", body)
        assert reply.status == 201
        assert reply.json == {"Id": "a" * 64, "Warnings": []}
        assert reply.body.endswith(b"\n")
        ((_, (request, name, platform), _),) = backend.containers.calls
        assert (request.image, request.cmd, name, platform) == ("busybox", "true", "web", "")
        assert request.host_config.memory == 4 << 20

    with_api(client)


def test_the_container_wide_mac_address_moves_to_its_endpoint_with_a_warning(
    with_api: With,
) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.containers.answers["create"] = lambda *_: CreateResponse(id="a")
        body = {"Image": "busybox", "MacAddress": "02:42:ac:11:00:02"}
        new = await api.ask("POST", "/v1.44/containers/create", body)
        assert "deprecated" in new.json["Warnings"][0]
        old = await api.ask("POST", "/v1.43/containers/create", body)
        assert old.json["Warnings"] == []
        for _, (request, _, _), _ in backend.containers.calls:
            endpoint = request.networking_config.endpoints_config["bridge"]
            assert endpoint.mac_address == "02:42:ac:11:00:02"

    with_api(client)


BAD_BODIES: list[tuple[str, str, Any]] = [
    ("POST", "/containers/create", {"Image": 1}),
    ("POST", "/containers/create", {"HostConfig": {"Binds": "/a:/b"}}),
    ("POST", "/containers/create", {"NetworkingConfig": {"EndpointsConfig": []}}),
    ("POST", "/containers/create", []),
    ("POST", "/containers/create", b"{"),
    ("POST", "/containers/x/update", {"Memory": "1g"}),
    ("POST", "/containers/x/exec", {"Cmd": 5}),
    ("POST", "/containers/x/exec", {"Cmd": []}),
    ("POST", "/containers/x/exec", {}),
    ("POST", "/exec/x/start", {"Detach": "no"}),
    ("POST", "/networks/create", {"Name": 7}),
    ("POST", "/networks/x/connect", {"Container": {}}),
    ("POST", "/commit?container=x", {"Env": {}}),
]


@pytest.mark.parametrize(("method", "path", "body"), BAD_BODIES)
def test_a_wrong_body_is_a_bad_request(with_api: With, method: str, path: str, body: Any) -> None:
    async def client(api: Any, backend: Any) -> None:
        headers = {"Content-Type": "application/json"}
        reply = await api.ask(method, path, body, headers)
        assert reply.status == 400
        assert reply.message

    with_api(client)


@pytest.mark.parametrize(
    ("headers", "body", "sentence"),
    [
        ({"Content-Type": "text/plain"}, b"{}", "unsupported Content-Type header (text/plain)"),
        ({}, b"{}", "malformed Content-Type header ()"),
        ({"Content-Type": "application/json"}, b"{}{}", "unexpected content after JSON"),
        ({"Content-Type": "application/json"}, b"{", "invalid JSON: "),
    ],
)
def test_a_body_has_to_be_declared_as_json(
    with_api: With, headers: dict[str, str], body: bytes, sentence: str
) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask("POST", "/containers/create", body, headers)
        assert reply.status == 400
        assert reply.message.startswith(sentence)

    with_api(client)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/json?limit=x"),
        ("GET", "/containers/json?filters=x"),
        ("GET", "/containers/json?all=%zz"),
        ("GET", "/containers/%zz/json"),
        ("POST", "/containers/x/stop?t=x"),
        ("POST", "/containers/x/restart?t=1.5"),
        ("POST", "/containers/x/resize?h=&w=80"),
        ("POST", "/containers/x/resize?h=24&w=-1"),
        ("POST", "/exec/x/resize?h=4294967296&w=1"),
        ("GET", "/containers/x/logs"),
        ("GET", "/containers/x/logs?stdout=1&since=x"),
        ("POST", "/containers/x/wait?condition=soon"),
        ("POST", "/containers/x/attach?detachKeys=ctrl-1"),
        ("GET", "/containers/x/attach/ws"),
        ("GET", "/containers/x/archive"),
        ("PUT", "/containers/x/archive"),
        ("HEAD", "/containers/x/archive"),
        ("GET", "/events?since=2&until=1"),
        ("GET", "/events?since=x"),
        ("GET", "/system/df?type=x"),
        ("GET", "/images/search?limit=-1"),
        ("GET", "/networks/x?verbose=maybe"),
        ("GET", "/volumes?filters=x"),
        ("POST", "/images/create?fromImage=UPPER"),
        ("POST", "/images/x/tag"),
        ("GET", "/images/x/json?platform=x"),
        ("GET", '/images/x/json?platform={"os":"linux"}'),
        ("DELETE", "/images/%20"),
    ],
)
def test_a_wrong_parameter_is_a_bad_request(with_api: With, method: str, path: str) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask(method, quote(path, safe='/?=&%{}":'))
        assert reply.status == 400
        assert method == "HEAD" or reply.message

    with_api(client)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/images/create?fromImage=scratch", 403),
        ("POST", "/build?version=2", 501),
    ],
)
def test_what_is_not_there_yet_says_so_in_one_sentence(
    with_api: With, method: str, path: str, status: int
) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask(method, path)
        assert reply.status == status
        assert "\n" not in reply.message

    with_api(client)


def test_lists_of_what_does_not_exist_are_empty_not_null(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        assert (await api.ask("GET", "/plugins")).json == []

    with_api(client)


def test_start_refuses_a_body_as_docker_does_since_1_24(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        reply = await api.ask("POST", "/containers/x/start", {"Binds": ["/:/host"]})
        assert reply.status == 400
        assert "removed in v1.24" in reply.message
        assert (await api.ask("POST", "/containers/x/start", {})).status == 204

    with_api(client)


def test_a_name_may_be_percent_encoded_and_an_image_name_has_slashes(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        await api.ask("POST", "/containers/a%62c/pause")
        assert backend.containers.calls[-1] == ("pause", ("abc",), {})
        await api.ask("GET", "/images/localhost:5000/a/b:1/history")
        assert backend.images.calls[-1][1][0] == "localhost:5000/a/b:1"

    with_api(client)


def test_the_signal_of_stop_came_with_1_42(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        await api.ask("POST", "/v1.41/containers/x/stop?signal=INT&t=5")
        await api.ask("POST", "/v1.42/containers/x/stop?signal=INT&t=5")
        assert [call[1] for call in backend.containers.calls] == [("x", "", 5), ("x", "INT", 5)]

    with_api(client)


EXAMPLES = [
    (method, path.replace("{name:.*}", "x").replace("{id:.*}", "x").replace("{name}", "x"))
    for method, path in router().operations
]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(EXAMPLES),
    st.dictionaries(
        st.sampled_from(
            ["all", "filters", "t", "h", "w", "since", "until", "tail", "platform", "names", "repo"]
            + ["tag", "fromSrc", "path", "type", "limit", "condition", "stdout", "detachKeys"]
        ),
        st.text(max_size=6),
        max_size=4,
    ),
    st.none() | st.binary(max_size=20) | st.dictionaries(st.text(max_size=5), st.integers()),
)
def test_no_request_is_answered_with_an_internal_error(
    with_api: With, operation: tuple[str, str], query: dict[str, str], body: Any
) -> None:
    method, path = operation
    path = path.replace("{id}", "x")
    text = "&".join(f"{k}={quote(v.encode('utf-8', 'replace'))}" for k, v in query.items())

    async def client(api: Any, backend: Any) -> None:
        nouns = backend.containers, backend.execs, backend.images, backend.networks
        for noun in (*nouns, backend.registries, backend.builder):
            noun.answers = _Missing()
        backend.engine.answers = backend.system.answers = backend.events.answers = _Missing()
        reply = await api.ask(method, f"{path}?{text}", body)
        assert reply.status < 500 or reply.status in (501, 503)  # 503: in no swarm
        assert reply.status != 503 or "swarm" in reply.message
        if reply.status >= 400 and method != "HEAD":
            assert set(reply.json) == {"message"}

    with_api(client)


class _Missing(dict[str, Any]):
    def get(self, key: str, default: Any = None) -> Any:
        return NotFound("No such object")
