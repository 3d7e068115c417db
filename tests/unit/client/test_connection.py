"""Anything that a server may send is an answer, or one of our errors."""

from __future__ import annotations

import socket

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.client.connection import Connection, Response
from sampan.errors import SampanError

STATUSES = st.sampled_from(
    (
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 101 UPGRADED",
        b"HTTP/1.1 204 No Content",
        b"HTTP/2 200",
        b"HTTP/1.1 \xb2\xb3\xb9 OK",
        b"HTTP/1.1 99999999999999999999 OK",
        b"HTTP/1.1",
        b"",
    )
)
HEADERS = st.lists(
    st.sampled_from(
        (
            b"Content-Length: 5",
            b"Content-Length: -5",
            b"Content-Length: \xb2",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Connection: close",
            b"",
            b":",
        )
    ),
    max_size=4,
)
BODIES = st.lists(
    st.sampled_from(
        (b"5\r\n", b"hello", b"\r\n", b"0\r\n", b"\n", b"ffffffff\r\n", b";x\r\n", b"\xff", b"{}")
    )
    | st.binary(max_size=8),
    max_size=8,
)


def answered(data: bytes) -> Response:
    """Return what a client makes of a server that sends this and leaves."""
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(data)
    connection = Connection(ours)
    try:
        return Response(connection, *connection.receive_head(), bodyless=False)
    except BaseException:
        connection.close()
        raise


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(STATUSES, HEADERS, BODIES, st.binary(max_size=20))
def test_whatever_comes_is_read_or_refused(
    status: bytes, headers: list[bytes], body: list[bytes], rest: bytes
) -> None:
    data = b"\r\n".join([status, *headers]) + b"\r\n\r\n" + b"".join(body) + rest
    for read in (Response.read, lambda response: list(response.lines())):
        try:
            response = answered(data)
        except SampanError:
            continue
        try:
            read(response)
        except SampanError:
            pass
        finally:
            response.close()


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=6))
@settings(deadline=None)
def test_lines_come_out_as_they_went_in(lines: list[bytes]) -> None:
    body = b"\n".join(lines)
    chunks = b"".join(b"1\r\n%b\r\n" % body[at : at + 1] for at in range(len(body)))
    response = answered(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    )
    found = list(response.lines())
    response.close()
    assert found == (lines[:-1] if lines[-1:] == [b""] else lines)
