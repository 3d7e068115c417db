"""The endpoints that become gRPC."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

With = Callable[[Any], None]


@pytest.mark.parametrize("path", ["/grpc", "/session"])
@pytest.mark.parametrize("upgrade", ["", "Upgrade: websocket\r\nConnection: Upgrade\r\n"])
def test_only_http2_is_spoken(with_api: With, path: str, upgrade: str) -> None:
    async def client(api: Any, _: Any) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{upgrade}"
        named = "X-Docker-Expose-Session-Uuid: s\r\n"
        answer = await api.raw(f"{head}{named}Connection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"not supported: only h2c is" in answer

    with_api(client)


def test_a_session_has_a_name(with_api: With) -> None:
    async def client(api: Any, _: Any) -> None:
        request = b"POST /session HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: close\r\n\r\n"
        answer = await api.raw(request)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"no session id" in answer

    with_api(client)


def test_engines_that_build_nothing_do_not_pay_for_grpc() -> None:
    code = "import sys, sampan.api.app; print('grpclib' in sys.modules, 'google' in sys.modules)"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert asked.stdout.split() == ["False", "False"]
