"""Calls between processes: values, errors, descriptors, and what hostile peers send."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Protocol

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan import rpc
from sampan.errors import Conflict, DeadlineExceeded, Internal, InvalidArgument, Unavailable
from sampan.rpc.contract import BODY_BYTES, Fd, receive, send
from tests.session import PATIENCE, eventually

# The service runs in a thread here; in a helper it is the only thread.
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


class Box(msgspec.Struct):
    """A value with a descriptor inside."""

    label: str
    content: Fd


class Service(Protocol):
    """The contract of these tests."""

    def add(self, a: int, b: int = 2) -> int: ...
    def echo(self, value: bytes) -> bytes: ...
    def fail(self, message: str) -> None: ...
    def crash(self) -> None: ...
    def later(self, *, answer: int) -> int: ...
    def never(self) -> int: ...
    def copy(self, box: Box) -> Box: ...
    def pid(self) -> int: ...
    def vanish(self) -> int: ...


class Implementation:
    """Answers the contract."""

    def __init__(self) -> None:
        self.waiting: list[rpc.Pending[int]] = []

    def add(self, a: int, b: int) -> int:
        return a + b

    def echo(self, value: bytes) -> bytes:
        return value

    def fail(self, message: str) -> None:
        raise Conflict(message)

    def crash(self) -> None:
        raise ZeroDivisionError("a fault")

    def later(self, answer: int) -> rpc.Pending[int]:
        pending: rpc.Pending[int] = rpc.Pending()
        threading.Timer(0.01, pending.resolve, [answer]).start()
        return pending

    def never(self) -> rpc.Pending[int]:
        self.waiting.append(rpc.Pending())
        return self.waiting[-1]

    def copy(self, box: Box) -> Box:
        return Box(box.label.upper(), Fd(os.dup(box.content.number)))

    def pid(self) -> int:
        return os.getpid()

    def vanish(self) -> int:
        os._exit(1)


def open_descriptors() -> set[tuple[int, int, int]]:
    """Return the open descriptors, each with what is behind it."""
    found = set()
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # that of the listing itself
            status = os.fstat(number)
            found.add((number, status.st_dev, status.st_ino))
    return found


def leaks_nothing(before: set[tuple[int, int, int]]) -> None:
    """Wait for the serving thread, which closes what it was lent just after it has answered.

    There may be fewer descriptors than before: other tests' garbage is collected at any time.
    """
    eventually(lambda: open_descriptors() <= before)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def served(pair: tuple[socket.socket, socket.socket]) -> Iterator[socket.socket]:
    ours, theirs = pair
    implementation = Implementation()
    thread = threading.Thread(
        target=rpc.serve, args=(theirs, Service, implementation, ["pid", "vanish"])
    )
    thread.start()
    yield ours
    ours.shutdown(socket.SHUT_RDWR)
    for pending in implementation.waiting:
        pending.resolve(0)
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.fixture
def service(served: socket.socket) -> Service:
    return rpc.connect(Service, served)


def test_a_call_returns_the_value_and_fills_in_defaults(service: Service) -> None:
    assert service.add(1) == 3
    assert service.add(1, b=5) == 6
    assert service.add(a=2, b=2) == 4


def test_a_body_larger_than_a_datagram_arrives_whole(service: Service) -> None:
    value = os.urandom(3 << 20)
    assert service.echo(value) == value


def test_an_error_of_ours_keeps_class_and_message(service: Service) -> None:
    with pytest.raises(Conflict, match=r"^taken$"):
        service.fail("taken")


def test_an_unexpected_error_is_internal_and_named(service: Service) -> None:
    with pytest.raises(Internal, match="ZeroDivisionError"):
        service.crash()


def test_a_method_may_answer_later(service: Service) -> None:
    assert service.later(answer=7) == 7


def test_a_call_past_its_deadline_raises(served: socket.socket) -> None:
    impatient = rpc.connect(Service, served, deadline=0.05)
    with pytest.raises(DeadlineExceeded, match="never"):
        impatient.never()


def test_descriptors_travel_inside_values_both_ways(service: Service) -> None:
    read, write = os.pipe()
    with Fd(read), Fd(write):
        answer = service.copy(Box("pipe", Fd(write)))
        with answer.content as copy:
            os.write(copy.number, b"through the copy")
        assert os.read(read, 100) == b"through the copy"
        assert answer.label == "PIPE"


@FORKS
def test_a_forked_method_runs_in_a_child(service: Service) -> None:
    assert service.pid() != os.getpid()
    assert service.add(1) == 3


@FORKS
def test_a_child_that_dies_is_unavailable_and_the_service_goes_on(service: Service) -> None:
    with pytest.raises(Unavailable):
        service.vanish()
    assert service.add(1) == 3


def test_a_missing_helper_is_unavailable(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(Unavailable):
        rpc.connect(Service, ours).add(1)


def test_a_descriptor_that_is_none_is_the_fault_of_its_call(service: Service) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        service.copy(Box("nothing", Fd(1 << 30)))
    assert service.add(1, 2) == 3


def test_unknown_methods_and_too_many_arguments_fail_before_anything_is_sent(
    service: Service,
) -> None:
    with pytest.raises(AttributeError):
        service.drop_tables()  # type: ignore[attr-defined]
    with pytest.raises(TypeError):
        service.add(1, 2, 3)  # type: ignore[call-arg]


def test_calls_from_several_threads_overlap(service: Service) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(service.later(answer=n)))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(16))


def test_calls_leak_no_descriptor(service: Service) -> None:
    service.add(1)
    before = open_descriptors()
    for _ in range(20):
        service.add(1)
        service.copy(Box("x", Fd(0))).content.close()
        with pytest.raises(Conflict):
            service.fail("x")
    leaks_nothing(before)


def hostile(served: socket.socket, body: bytes, fds: list[int]) -> None:
    socket.send_fds(served, [body], fds)


@pytest.mark.parametrize(
    "body",
    [
        b"i",
        b"i\xc1",
        b"x" + msgspec.msgpack.encode({"type": "add", "a": 1}),
        b"i" + msgspec.msgpack.encode({"type": "add", "a": "one"}),
        b"i" + msgspec.msgpack.encode({"type": "__init__"}),
        b"i" + msgspec.msgpack.encode({"type": "add", "a": 1, "extra": 1}),
        b"i" + msgspec.msgpack.encode({"type": "copy", "box": {"label": "", "content": 9}}),
        b"i" + msgspec.msgpack.encode({"type": "copy", "box": {"label": "", "content": -1}}),
        b"i" + b"\x91" * 5000,
        b"m",
        b"m" + b"trailing",
    ],
)
@pytest.mark.parametrize("companion", ["none", "socket", "null", "many"])
def test_hostile_packets_are_refused_or_dropped_and_leak_nothing(
    served: socket.socket, service: Service, body: bytes, companion: str
) -> None:
    assert service.add(1) == 3
    before = open_descriptors()
    reply, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reply, theirs, open("/dev/null", "rb") as null:
        fds = {
            "none": [],
            "socket": [theirs.fileno()],
            "null": [null.fileno()],
            "many": [theirs.fileno()] + [null.fileno()] * 40,
        }[companion]
        hostile(served, body, fds)
        assert service.add(1) == 3
    leaks_nothing(before)


def test_a_malformed_call_is_answered_as_invalid(served: socket.socket) -> None:
    reply, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reply:
        with theirs:
            send(served, b"\xc1", [Fd(theirs.fileno())])
        body, _ = receive(reply)
    assert msgspec.msgpack.decode(body)["code"] == InvalidArgument.code


def test_an_oversized_memfd_is_refused_unread(served: socket.socket, service: Service) -> None:
    memfd = os.memfd_create("huge")
    os.ftruncate(memfd, BODY_BYTES + 1)
    reply, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reply, Fd(memfd):
        with theirs:
            hostile(served, b"m", [memfd, theirs.fileno()])
        body, _ = receive(reply)
    assert msgspec.msgpack.decode(body)["code"] == InvalidArgument.code
    assert service.add(1) == 3


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=st.binary(max_size=400))
def test_no_packet_stops_the_service(served: socket.socket, body: bytes) -> None:
    reply, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reply:
        with theirs:
            hostile(served, b"i" + body, [theirs.fileno()])
        assert receive(reply)[0]


def test_a_contract_accepts_only_values_that_can_cross(service: Service) -> None:
    with pytest.raises(TypeError):
        service.echo(object())  # type: ignore[arg-type]
