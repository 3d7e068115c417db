"""The client's side of HTTP/1.1 and of the Docker API."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.client.api import Client
from sampan.client.connection import LINE_BYTES, READ_BYTES
from sampan.client.endpoint import Endpoint
from sampan.client.requests import filters_of, query_of, quoted
from sampan.errors import (
    Conflict,
    Internal,
    InvalidArgument,
    NotFound,
    SampanError,
    Unavailable,
    Unsupported,
)
from tests.unit.client.server import answer, serving


def client_of(host: str) -> Client:
    return Client(Endpoint(host))


def test_a_call_sends_json_and_returns_json(tmp_path: Path) -> None:
    with serving(tmp_path, answer(b'{"Id":"x","Warnings":[]}', "201 Created")) as server:
        with client_of(server.host) as client:
            assert client.containers.create({"Image": "a"}, name="b c")["Id"] == "x"
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /containers/create?name=b%20c HTTP/1.1\r\nHost: localhost\r\n")
    assert b"Content-Type: application/json" in head
    assert body == b'{"Image":"a"}'


def test_a_pinned_version_is_in_the_path(tmp_path: Path) -> None:
    with (
        serving(tmp_path, answer(b"[]")) as server,
        Client(Endpoint(server.host), "1.41") as client,
    ):
        assert client.containers.list() == []
    assert server.requests[0].startswith(b"GET /v1.41/containers/json HTTP/1.1\r\n")


def test_a_connection_is_used_again(tmp_path: Path) -> None:
    with serving(tmp_path, answer(b"{}"), answer(b"{}")) as server:
        with client_of(server.host) as client:
            client.system.info()
            client.system.info()
        assert server.connections == 1


def test_a_connection_that_was_closed_meanwhile_is_opened_again(tmp_path: Path) -> None:
    with serving(tmp_path, answer(b"{}"), answer(b"{}"), closing=True) as server:
        with client_of(server.host) as client:
            client.system.info()
            client.system.info()
        assert server.connections == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("400 Bad Request", InvalidArgument),
        ("404 Not Found", NotFound),
        ("409 Conflict", Conflict),
        ("500 Internal Server Error", Internal),
        ("501 Not Implemented", Unsupported),
        ("503 Service Unavailable", Unavailable),
        ("418 I'm a teapot", Internal),
    ],
)
def test_a_status_is_an_error_with_the_daemon_s_sentence(
    tmp_path: Path, status: str, error: type[SampanError]
) -> None:
    body = b'{"message":"No such container: x"}\n'
    with serving(tmp_path, answer(body, status)) as server, client_of(server.host) as client:
        with pytest.raises(error) as raised:
            client.containers.inspect("x")
    assert str(raised.value) == "Error response from daemon: No such container: x"


def test_not_modified_is_no_error_of_start(tmp_path: Path) -> None:
    with serving(tmp_path, b"HTTP/1.1 304 Not Modified\r\n\r\n") as server:
        with client_of(server.host) as client:
            client.containers.start("x")
    assert server.requests[0].startswith(b"POST /containers/x/start HTTP/1.1\r\n")


def test_a_daemon_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Cannot connect to the Docker daemon at unix:"):
        client_of(f"unix://{tmp_path}/none.sock").system.info()


def test_chunks_are_put_together_and_lines_come_one_by_one(tmp_path: Path) -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'5\r\n{"a":\r\n4;x=y\r\n1}\r\n\r\n9\r\n{"a":2}\r\n\r\n0\r\n\r\n'
    )
    with serving(tmp_path, chunked) as server, client_of(server.host) as client:
        assert list(client.system.events()) == [{"a": 1}, {"a": 2}]


def test_a_body_of_pieces_goes_in_chunks(tmp_path: Path) -> None:
    with serving(tmp_path, answer(b"")) as server, client_of(server.host) as client:
        client.containers.put_archive("x", "/", iter([b"abc", b"", b"d" * 20]))
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body == b"3\r\nabc\r\n14\r\n" + b"d" * 20 + b"\r\n0\r\n\r\n"


def test_a_hijacked_connection_keeps_what_came_with_the_head(tmp_path: Path) -> None:
    upgraded = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly"
    with serving(tmp_path, upgraded, closing=True) as server, client_of(server.host) as client:
        connection = client.containers.attach("x", stdin=True)
        assert connection.read_some() == b"early"
        assert connection.read_some() == b""
        connection.close()
    assert b"Upgrade: tcp\r\n" in server.requests[0]


def test_the_wait_is_registered_when_wait_returns(tmp_path: Path) -> None:
    with serving(tmp_path, answer(b'{"StatusCode":7}')) as server, client_of(server.host) as client:
        waiting = client.containers.wait("x", "next-exit")
        assert waiting.result()["StatusCode"] == 7
    assert server.requests[0].startswith(b"POST /containers/x/wait?condition=next-exit ")


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 1000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000,
    ],
)
def test_a_broken_answer_is_an_error_and_not_a_hang(tmp_path: Path, reply: bytes) -> None:
    with serving(tmp_path, reply, closing=True) as server, client_of(server.host) as client:
        with pytest.raises((Internal, Unavailable)):
            client.system.info()


def test_a_message_without_an_end_is_an_error(tmp_path: Path) -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"{" * (LINE_BYTES + READ_BYTES + 1)
    with serving(tmp_path, endless, closing=True) as server, client_of(server.host) as client:
        with pytest.raises(Internal, match="a message of more than"):
            list(client.system.events())


def test_an_answer_without_an_end_is_an_error(tmp_path: Path) -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000
    with serving(tmp_path, endless, closing=True) as server, client_of(server.host) as client:
        response = client.open("GET", "/info")
        with pytest.raises(Internal, match="longer than 4000 bytes"):
            client.finish(response, 4000)


def test_documents_of_one_line_come_one_by_one(tmp_path: Path) -> None:
    body = answer(b'{"a":1}{"a":2} \r\n\n{"a":\t3}')
    with serving(tmp_path, body) as server, client_of(server.host) as client:
        assert [event["a"] for event in client.system.events()] == [1, 2, 3]


def test_queries_leave_out_what_is_not_given() -> None:
    assert query_of({"a": None, "b": False, "c": True, "d": ["x", "y/z"], "e": 0}) == (
        "?c=1&d=x&d=y/z&e=0"
    )
    assert query_of({}) == ""


def test_filters_are_a_map_of_sets() -> None:
    assert filters_of({"label": ["a=1", "b"]}) == '{"label":{"a=1":true,"b":true}}'
    assert filters_of({}) is None


@given(st.text())
def test_quoted_text_can_stand_in_a_request_line(text: str) -> None:
    from urllib.parse import unquote

    encoded = quoted(text.encode("utf-8", "replace").decode())
    assert not set(encoded) & set(" \r\n?#&+%") - {"%"}
    assert unquote(encoded) == text.encode("utf-8", "replace").decode()


def test_a_container_without_a_name_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="value is empty"):
        client_of("unix:///nonexistent").containers.inspect("/")
