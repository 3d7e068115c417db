from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sampan.registry.configuration import document
from sampan.registry.observability.health import (
    BY_HAND,
    Check,
    Health,
    Unhealthy,
    answers,
    connects,
    file_is_absent,
    outcome,
)
from sampan.registryd import settings


def _fail() -> None:
    raise Unhealthy("ill")


def test_a_check_fails_after_as_many_failures_as_its_threshold() -> None:
    check = Check("x", _fail, threshold=3)
    health = Health([check])
    for sick in ({}, {}, {"x": "ill"}, {"x": "ill"}):
        check.count("ill")
        assert health.sick() == sick
    check.count("")
    assert health.sick() == {}


@pytest.mark.parametrize("threshold", [0, 1])
def test_one_failure_is_enough_without_a_threshold(threshold: int) -> None:
    check = Check("x", _fail, threshold=threshold)
    check.count(outcome(check))
    assert Health([check]).sick() == {"x": "ill"}


def test_an_administrator_takes_the_registry_down_and_up() -> None:
    health = Health()
    health.down_by_hand = True
    assert health.sick() == {BY_HAND: "Manual Check"}
    health.down_by_hand = False
    assert health.sick() == {}


def test_checks_run_in_their_intervals() -> None:
    ran: list[int] = []

    async def watch() -> None:
        def probe() -> None:
            ran.append(1)
            raise OSError(5, "Input/output error")

        health = Health([Check("x", probe, interval=0.001)])
        with ThreadPoolExecutor(1) as threads:
            task = asyncio.create_task(health.watch(threads))
            while len(ran) < 3:
                await asyncio.sleep(0.001)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert "Input/output error" in health.sick()["x"]

    asyncio.run(watch())


def test_a_file_that_is_there_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "down"
    file_is_absent(str(path))
    path.touch()
    with pytest.raises(Unhealthy, match="file exists"):
        file_is_absent(str(path))


def test_a_port_where_nobody_listens_is_a_failure() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        connects(f"127.0.0.1:{port}", 5)
    for address in (f"127.0.0.1:{port}", "nonsense", "x:y"):
        with pytest.raises(Unhealthy):
            connects(address, 5)


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        right = self.headers.get_all("X-Key") == ["a", "b"] and self.path == "/ok?x=1"
        right = right or self.headers["Authorization"] == "Basic dTpwQHNz"  # u:p@ss
        self.send_response(200 if right else 500)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_another_status_is_a_failure(port: int) -> None:
    headers = {"X-Key": ["a", "b"]}
    answers(f"http://127.0.0.1:{port}/ok?x=1", 200, headers, 5)
    answers(f"http://127.0.0.1:{port}/", 500, {}, 5)
    with pytest.raises(Unhealthy, match="unexpected status: 500"):
        answers(f"http://127.0.0.1:{port}/", 200, headers, 5)


def test_no_answer_is_a_failure() -> None:
    check = Check("x", lambda: answers("http://127.0.0.1:1/", 200, {}, 5))
    assert "error while checking" in outcome(check)


def test_a_password_in_an_address_is_shown_to_its_host_and_told_to_nobody(port: int) -> None:
    answers(f"http://u:p%40ss@127.0.0.1:{port}/", 200, {}, 5)
    text = "health: {http: [{uri: 'http://u:secret@127.0.0.1:1/'}, {uri: 'http://u:secret@x:y/'}]}"
    found = settings.checks(document.check(text.encode(), {}), lambda: None)
    for check in found:
        check.count(outcome(check))
    told = Health(found).sick()
    assert list(told) == ["http://xxxxx:xxxxx@127.0.0.1:1/", "http://xxxxx:xxxxx@x:y/"]
    assert "error while checking" in told["http://xxxxx:xxxxx@127.0.0.1:1/"]
    assert "secret" not in str(told)


def test_a_probe_that_fails_in_another_way_ends_no_other_checks() -> None:
    assert outcome(Check("x", lambda: connects("x" * 64 + ".example:1", 5)))  # UnicodeError
    assert outcome(Check("x", lambda: answers("http://x/", 200, {"X": ["a\nb"]}, 5)))  # ValueError
