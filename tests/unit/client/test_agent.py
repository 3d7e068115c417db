"""SSH agents behind a filter: what they are asked, and in which order they answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.client.agent import Agent
from sampan.errors import InvalidArgument

LIST, SIGN, REMOVE_ALL, EXTENSION = b"\x0b", b"\x0dkey data", b"\x13", b"\x1bquery"
FAILURE = b"\0\0\0\1\5"


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Agent, socket.socket]]:
    """Give our end of a connection, and that of an agent of the test's own."""
    path = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        agent = Agent(path)
        connection, _ = listening.accept()
    with connection:
        yield agent, connection
    agent.close()


@pytest.mark.parametrize("request_", [LIST, SIGN])
def test_keys_are_listed_and_used(pair: tuple[Agent, socket.socket], request_: bytes) -> None:
    agent, connection = pair
    asked = framed(request_)
    assert agent.ask(asked[:3]) == b""
    assert agent.ask(asked[3:]) == b""
    assert connection.recv(100) == asked
    connection.sendall(framed(b"\x0canswer")[:5])
    assert agent.answer() == b""
    connection.sendall(framed(b"\x0canswer")[5:])
    assert agent.answer() == framed(b"\x0canswer")


@pytest.mark.parametrize("request_", [REMOVE_ALL, EXTENSION, b"", b"\x11key", b"\x16lock"])
def test_all_else_is_refused(pair: tuple[Agent, socket.socket], request_: bytes) -> None:
    agent, connection = pair
    assert agent.ask(framed(request_)) == FAILURE
    connection.setblocking(False)
    with pytest.raises(BlockingIOError):
        connection.recv(1)


def test_answers_come_in_the_order_of_the_requests(pair: tuple[Agent, socket.socket]) -> None:
    agent, connection = pair
    assert agent.ask(framed(LIST) + framed(REMOVE_ALL) + framed(SIGN)) == b""
    assert connection.recv(100) == framed(LIST)
    connection.sendall(framed(b"1"))
    assert agent.answer() == framed(b"1") + FAILURE
    assert connection.recv(100) == framed(SIGN)
    agent.ended = True
    assert not agent.idle
    connection.sendall(framed(b"2"))
    assert agent.answer() == framed(b"2")
    assert agent.idle


def test_an_agent_that_leaves_is_noticed(pair: tuple[Agent, socket.socket]) -> None:
    agent, connection = pair
    connection.close()
    assert agent.answer() is None


def test_messages_are_bounded(pair: tuple[Agent, socket.socket]) -> None:
    agent, _ = pair
    with pytest.raises(InvalidArgument, match="too long"):
        agent.ask(b"\xff\xff\xff\xff")
