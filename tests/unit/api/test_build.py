"""POST /build and POST /build/prune: what of the query reaches the builder."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from sampan.errors import InvalidArgument
from sampan.spec.build import BuildOptions, Limits
from sampan.spec.docker.config import Ulimit
from sampan.spec.docker.images import ProgressMessage
from sampan.spec.reference import Reference
from tests.unit.api.conftest import items

With = Callable[[Any], None]


def ready(backend: Any) -> Any:
    """Have a builder that says one thing."""
    builder = backend.builder
    builder.answers["build"] = lambda *_: items(ProgressMessage(stream="built\n"))
    return builder


def options(builder: Any) -> BuildOptions:
    [(_, (found, *_), _)] = [call for call in builder.calls if call[0] == "build"]
    return found


def test_the_query_becomes_options(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        builder = ready(backend)
        query = {
            "dockerfile": "a/b", "target": "s", "nocache": "1", "pull": "0", "q": "1",
            "buildargs": '{"A":"b","C":null}', "labels": '{"l":"m"}', "platform": "linux/arm64",
            "networkmode": "host", "memory": "1024", "memswap": "-1", "cpusetcpus": "0,1",
            "shmsize": "64", "cachefrom": '["x"]',
            "ulimits": '[{"Name":"nofile","Soft":1,"Hard":2}]',
        }  # fmt: skip
        text = "&".join(f"{key}={quote(value)}" for key, value in query.items())
        text += "&t=x&t=y:1&t=x:latest&extrahosts=a:1&extrahosts=b:2"
        reply = await api.ask("POST", f"/build?{text}")
        assert reply.body == b'{"stream":"built\\n"}\r\n'
        assert options(builder) == BuildOptions(
            dockerfile="a/b",
            target="s",
            no_cache=True,
            quiet=True,
            arguments={"A": "b", "C": None},
            labels={"l": "m"},
            platform="linux/arm64",
            network="host",
            entitlements=["network.host"],
            tags=["docker.io/library/x:latest", "docker.io/library/y:1"],
            extra_hosts=["a:1", "b:2"],
            cache_from=["x"],
            limits=Limits(
                memory=1024,
                memory_swap=-1,
                cpuset_cpus="0,1",
                shm_size=64,
                ulimits=[Ulimit(name="nofile", soft=1, hard=2)],
            ),
        )

    with_api(client)


def test_credentials_of_all_registries_are_handed_on(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        builder = ready(backend)
        config = {"registry:5000": {"username": "u", "password": "p"}}
        header = base64.urlsafe_b64encode(json.dumps(config).encode()).decode()
        await api.raw(
            f"POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n"
            f"X-Registry-Config: {header}\r\n\r\n".encode()
        )
        [call] = [call for call in builder.calls if call[0] == "build"]
        found = await call[1][2].credentials(Reference.parse("registry:5000/a"))
        assert found.username == "u"

    with_api(client)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("t=No", 400),
        ("t=x@sha256:" + "0" * 64, 400),
        ("buildargs=[1]", 400),
        ("labels=x", 400),
        ("ulimits={}", 400),
        ("memory=x", 400),
        ("outputs=[{}]", 400),
        ("version=2", 501),
        ("remote=ftp://host/x", 400),
    ],
)
def test_what_cannot_be_is_refused(with_api: With, query: str, status: int) -> None:
    async def client(api: Any, backend: Any) -> None:
        ready(backend)
        assert (await api.ask("POST", f"/build?{quote(query, safe='=&/:@')}")).status == status

    with_api(client)


def test_a_fault_before_the_first_message_is_a_status(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        async def failing(*_: Any) -> Any:
            raise InvalidArgument("dockerfile parse error on line 1: unknown instruction: X")
            yield

        backend.builder.answers["build"] = failing
        reply = await api.ask("POST", "/build")
        assert reply.status == 400
        assert "unknown instruction: X" in reply.message

    with_api(client)


def test_a_prune_says_what_it_wants_in_either_spelling(with_api: With) -> None:
    async def client(api: Any, backend: Any) -> None:
        backend.builder.answers["prune"] = [], 5
        text = quote('{"until":{"24h":true}}')
        reply = await api.ask("POST", f"/build/prune?all=1&keep-storage=7&filters={text}")
        assert reply.json == {"CachesDeleted": None, "SpaceReclaimed": 5}
        [(_, (wish,), _)] = backend.builder.calls
        assert (wish.all, wish.reserved, wish.keep_duration) == (True, 7, 24 * 3600 * 10**9)

    with_api(client)
