from __future__ import annotations

import asyncio
import io
import re

import pytest

from sampan.registry.observability.access_log import AccessLog
from sampan.registry.registry import Registry
from tests.own_registry import Shop, serving

COMBINED = re.compile(
    r"192\.0\.2\.7 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    r'"(?P<request>[^"]*)" (?P<status>\d+) (?P<size>\d+) "[^"]*" "(?P<agent>.*)"\n'
)


def _lines(method: str, url: str, headers: dict[str, str]) -> str:
    out = io.StringIO()
    with Registry.in_memory() as registry, serving(registry) as shop:
        watched = Shop(AccessLog(shop.application, out))  # type: ignore[arg-type]
        watched.ask(method, url, headers=headers)
    return out.getvalue()


def test_a_request_is_one_line_in_the_combined_format() -> None:
    match = COMBINED.fullmatch(_lines("GET", "/v2/?a=b", {"User-Agent": "docker/28"}))
    assert match
    assert match.group("request", "status", "size", "agent") == (
        *("GET /v2/?a=b HTTP/1.1", "200", "2", "docker/28"),
    )


def test_a_head_sends_no_bytes() -> None:
    match = COMBINED.fullmatch(_lines("HEAD", "/v2/", {}))
    assert match
    assert match["size"] == "0"


def test_what_a_client_says_cannot_break_the_line() -> None:
    text = _lines("GET", "/v2/", {"User-Agent": 'x" \x1b[31m\x85 y', "Referer": '"'})
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert '\\"' in text


def test_other_connections_pass() -> None:
    seen = []

    async def application(scope: object, receive: object, send: object) -> None:
        seen.append(scope)

    log = AccessLog(application, io.StringIO())  # type: ignore[arg-type]
    asyncio.run(log({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == [{"type": "lifespan"}]


class Full(io.StringIO):
    """A file that takes nothing for a while."""

    is_full = True

    def flush(self) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")


def test_a_full_disk_is_told_once_and_keeps_nobody_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = Full()
    with Registry.in_memory() as registry, serving(registry) as shop:
        watched = Shop(AccessLog(shop.application, out))  # type: ignore[arg-type]
        for full in (True, True, False, True):
            out.is_full = full
            assert watched.get("/v2/").status == 200
    told = [record.message for record in caplog.records]
    assert len(told) == 2
    assert "the access log is not written" in told[0]
