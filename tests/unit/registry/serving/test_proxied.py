from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.registry.serving.proxied import Proxied, Trusted


@pytest.mark.parametrize(
    ("listed", "peer", "told", "client"),
    [
        ([], "10.0.0.1", "192.0.2.7", "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", "192.0.2.7", "192.0.2.7"),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", "192.0.2.7", "192.0.2.7"),
        (["10.0.0.0/8"], "192.0.2.9", "192.0.2.7", "192.0.2.9"),
        # What a client itself has written stands before what the proxies have.
        (["10.0.0.0/8"], "10.0.0.1", "198.51.100.1, 192.0.2.7", "192.0.2.7"),
        (["10.0.0.0/8"], "10.0.0.1", "198.51.100.1,192.0.2.7, 10.0.0.2", "192.0.2.7"),
        (["10.0.0.0/8"], "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (["10.0.0.0/8"], "10.0.0.1", "192.0.2.7, nobody", "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", "192.0.2.7, nobody, 10.0.0.2", "10.0.0.2"),
        (["2001:db8::1"], "2001:db8::1", "2001:db8::2", "2001:db8::2"),
        (["unix"], "/run/registry.sock", "192.0.2.7", "192.0.2.7"),
        (["unix"], "", "192.0.2.7", "192.0.2.7"),
        (["10.0.0.0/8"], "/run/registry.sock", "192.0.2.7", "/run/registry.sock"),
        (["unix"], "10.0.0.1", "192.0.2.7", "10.0.0.1"),
    ],
)
def test_a_client_is_who_a_trusted_proxy_says(
    listed: list[str], peer: str, told: str, client: str
) -> None:
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope.get("client") or ("",))[0])

    scope: dict[str, Any] = {
        "type": "http",
        "client": (peer, 1234) if peer else None,
        "headers": [(b"x-forwarded-for", told.encode()), (b"host", b"x")],
    }
    nothing: Any = None
    asyncio.run(Proxied(application, Trusted(listed))(scope, nothing, nothing))
    assert seen == [client]
    assert scope["client"] == ((peer, 1234) if peer else None)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "nginx", ""])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"http\.clients\.proxies: "):
        Trusted([text])
