"""Which connections are ended: those that say nothing, and those of who has most of all."""

from __future__ import annotations

import contextlib
import os
import resource
import socket

import pytest

from sampan.http.limits import Limits
from sampan.registry.serving import crowd
from sampan.registry.serving.crowd import Crowd, Sight

LIMITS = Limits(connections=4, head_seconds=30, idle_seconds=300)


def sight(host: str, port: int = 1, moved: int = 0) -> Sight:
    return Sight(0, (host, port), moved)


def test_who_asks_for_nothing_is_ended_when_a_head_would_be_due() -> None:
    some = Crowd(LIMITS)
    silent, asking = sight("a"), sight("b")
    assert some.superfluous([silent, asking], 0) == []
    some.begin(asking.peer, 1)
    some.end(asking.peer, 2)
    assert some.superfluous([silent, asking], 30) == []
    assert some.superfluous([silent, asking], 31) == [silent]


def test_who_is_idle_is_ended_but_not_whose_request_runs_or_whose_answer_is_read() -> None:
    some = Crowd(LIMITS)
    for peer in ("idle", "running", "reading", "pinging"):
        some.begin((peer, 1), 0)
        if peer != "running":
            some.end((peer, 1), 0)
    found: list[Sight] = []
    for now in range(302):
        there = [
            sight("idle"),
            sight("running"),
            sight("reading", moved=now * crowd.LITTLE),
            sight("pinging", moved=now),
        ]
        found += some.superfluous(there, now)
    assert found == [sight("idle"), sight("pinging", moved=301)]


def test_who_has_most_gives_and_first_what_was_idle_for_longest() -> None:
    some = Crowd(LIMITS)
    greedy = [sight("greedy", port) for port in range(5)]
    modest = [sight("modest", port) for port in range(2)]
    for number, one in enumerate([*greedy, *modest]):
        some.begin(one.peer, number)
        if one is not greedy[0]:
            some.end(one.peer, number)
    assert some.superfluous([*modest, *greedy], 10) == [greedy[1], greedy[2], greedy[3]]


def test_a_client_that_is_gone_is_forgotten_when_its_requests_are_over() -> None:
    some = Crowd(LIMITS)
    some.begin(("a", 1), 0)
    some.superfluous([], 1)
    assert some._known
    some.end(("a", 1), 2)
    some.superfluous([], 3)
    assert not some._known


@pytest.mark.parametrize("full", [False, True])
def test_a_connection_is_seen_and_ended_by_its_descriptor(full: bool) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        stack.enter_context(socket.create_connection(other.getsockname()))
        theirs = stack.enter_context(listener.accept()[0])
        client.sendall(b"x" * 1000)
        theirs.recv(1000)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        if full:  # whoever made it so must still be seen
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
            highest = max(map(int, os.listdir("/proc/self/fd")))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
            with contextlib.suppress(OSError):
                while True:
                    stack.callback(os.close, os.dup(0))
        (found,) = crowd.connections(port)
        assert (found.descriptor, found.peer) == (theirs.fileno(), client.getsockname())
        assert found.moved >= 1000
        crowd.end(Sight(found.descriptor, ("127.0.0.1", 1), 0), port)  # somebody else by now
        theirs.send(b"still here")
        assert client.recv(100) == b"still here"
        crowd.end(found, port)
        assert client.recv(100) == b""
        assert theirs.fileno() >= 0
