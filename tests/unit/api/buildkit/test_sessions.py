"""Sessions: named, waited for, asked for secrets and passwords, and gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sampan.api.buildkit import sessions as module
from sampan.api.buildkit.sessions import Session, Sessions, encoded
from sampan.errors import InvalidArgument, NotFound
from sampan.http.grpc import serve
from sampan.http.stream import SocketStream
from tests.buildkit import Folders

CLIENT = Folders(
    {"context": Path()}, secrets={"s": b"\0hidden"}, passwords={"registry:5000": ("me", "pw")}
)


@contextlib.asynccontextmanager
async def kept(sessions: Sessions, name: str, methods: list[str]) -> AsyncIterator[SocketStream]:
    """Have a client with a session; give its end of the connection."""
    one, other = socket.socketpair()
    ours, theirs = SocketStream(one), SocketStream(other)
    serving = asyncio.ensure_future(serve(theirs, [CLIENT]))
    keeping = asyncio.ensure_future(sessions.keep(name, methods, ours))
    try:
        async with asyncio.timeout(20):
            yield theirs
    finally:
        for task in (serving, keeping):
            task.cancel()
        await asyncio.wait([serving, keeping])
        ours.close()
        theirs.close()


def test_a_session_may_come_after_the_build_that_wants_it() -> None:
    async def run() -> None:
        sessions = Sessions()
        finding = asyncio.ensure_future(sessions.find("a"))
        await asyncio.sleep(0)
        async with kept(sessions, "a", list(CLIENT.__mapping__())):
            session = await finding
            assert await session.secret("s") == b"\0hidden"
            assert await session.secret("none") is None
            assert await session.credentials("registry:5000") == ("me", "pw")
            assert await session.credentials("other") == ("", "")

    asyncio.run(run())


def test_what_a_client_does_not_serve_is_not_asked_for() -> None:
    async def run() -> None:
        sessions = Sessions()
        async with kept(sessions, "a", []):
            session = await sessions.find("a")
            assert await session.secret("s") is None
            assert await session.credentials("registry:5000") == ("", "")

    asyncio.run(run())


def test_a_session_that_never_comes_is_an_error_and_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    sessions = Sessions()
    with pytest.raises(NotFound, match="no active session for x"):
        asyncio.run(sessions.find("x"))
    assert sessions._open == {}


def test_a_name_is_taken_once_and_free_when_its_client_has_left() -> None:
    async def run() -> None:
        sessions = Sessions()
        async with kept(sessions, "a", []) as client:
            await sessions.find("a")
            one, other = socket.socketpair()
            with pytest.raises(InvalidArgument, match="session a is already there"):
                await sessions.keep("a", [], SocketStream(one))
            one.close()
            other.close()
            await client.close_write()
            while sessions._open:
                await asyncio.sleep(0)
        with pytest.raises(InvalidArgument, match="a session has an id"):
            await sessions.find("")

    asyncio.run(run())


def test_a_build_that_waits_no_longer_for_its_session_leaves_nothing() -> None:
    async def run() -> None:
        sessions = Sessions()
        finding = asyncio.ensure_future(sessions.find("a"))
        await asyncio.sleep(0)
        finding.cancel()
        await asyncio.wait([finding])
        assert sessions._open == {}

    asyncio.run(run())


def test_of_two_clients_that_take_a_name_at_once_one_has_it() -> None:
    async def run() -> None:
        sessions = Sessions()
        pairs = [socket.socketpair() for _ in range(2)]
        streams = [SocketStream(one) for one, _ in pairs]
        keeping = [asyncio.ensure_future(sessions.keep("a", [], one)) for one in streams]
        done, (kept_one,) = await asyncio.wait(
            keeping, timeout=20, return_when=asyncio.FIRST_COMPLETED
        )
        [refused] = done
        with pytest.raises(InvalidArgument, match="session a is already there"):
            await refused
        assert (await sessions.find("a")).id == "a"
        kept_one.cancel()
        await asyncio.wait([kept_one])
        assert sessions._open == {}
        for pair in pairs:
            for sock in pair:
                sock.close()

    asyncio.run(run())


def test_plain_values_stay_as_they_are() -> None:
    assert encoded("k", ["a", "b/*"]) == [("k", "a"), ("k", "b/*")]
    assert encoded("k", []) == []


def test_methods_are_known_in_any_case() -> None:
    session = Session("a", None, frozenset({"/moby.x/getsecret"}))  # type: ignore[arg-type]
    assert session.serves("/moby.x/GetSecret")
