"""The serving side of a contract: inside a privileged helper, one thread, no event loop."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Generic, TypeVar

from sampan.errors import Internal, InvalidArgument, NoSpace, SampanError
from sampan.rpc.contract import Contract, Failure, Fd, Ok, pack, receive, send, unpack

log = logging.getLogger(__name__)
T = TypeVar("T")


class Pending(Generic[T]):
    """What a method returns when the answer comes later; resolve or fail it exactly once."""

    def __init__(self) -> None:
        self._reply: Ok | Failure | None = None
        self._answer: Callable[[Ok | Failure], None] | None = None

    def resolve(self, value: T) -> None:
        """Send `value` to the caller."""
        self._settle(Ok(value))

    def fail(self, error: BaseException) -> None:
        """Send `error` to the caller."""
        self._settle(failure(error))

    def _settle(self, reply: Ok | Failure) -> None:
        if self._reply is not None:
            raise RuntimeError("a pending call was answered twice")
        self._reply = reply
        if self._answer:
            self._answer(reply)

    def _deliver(self, answer: Callable[[Ok | Failure], None]) -> None:
        self._answer = answer
        if self._reply is not None:
            answer(self._reply)


def failure(error: BaseException) -> Failure:
    """Return the reply that stands for `error`; log an unexpected one and call it internal."""
    if isinstance(error, SampanError):
        return Failure(error.code, str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(
            NoSpace.code, f"no space left on device: {error.filename or ''}".rstrip(": ")
        )
    log.error("a call failed", exc_info=error)
    return Failure(Internal.code, f"{type(error).__name__}: {error}")


class Connection:
    """One client of a service: answers its calls until it closes the socket."""

    def __init__(
        self,
        sock: socket.socket,
        contract: Contract,
        service: object,
        forking: Collection[str] = (),
    ) -> None:
        sock.set_inheritable(False)  # what this process executes must not look like it
        self.sock = sock
        self._contract = contract
        self._service = service
        self._forking = frozenset(forking)
        self._children: set[int] = set()

    def fileno(self) -> int:
        """Return the socket's descriptor, for `select`."""
        return self.sock.fileno()

    def answer_one(self) -> bool:
        """Answer the next call; return False when the client is gone.

        A call named in `forking` is carried out by a child, so that it may take long or change
        the process (chroot); the child answers and ends.
        """
        try:
            body, lent = receive(self.sock)
        except ConnectionError:
            return False
        if not body:
            return False
        self._reap()
        try:
            reply_to = _reply_socket(lent)
            if reply_to is None:
                return True
            with reply_to:
                self._answer(body, lent[1:], reply_to)
        finally:
            for fd in lent:
                fd.close()
        return True

    def _answer(self, body: bytes, lent: list[Fd], reply_to: socket.socket) -> None:
        try:
            request = unpack(self._contract.request, body, lent)
        except (ValueError, RecursionError) as error:
            deliver(reply_to, failure(InvalidArgument(f"malformed call: {error}")))
            return
        name = type(request).__name__
        arguments = {field: getattr(request, field) for field in request.__struct_fields__}
        if name in self._forking and (child := os.fork()):
            self._children.add(child)
            return
        try:
            value = getattr(self._service, name)(**arguments)
        except Exception as error:  # noqa: BLE001 - every failure is answered
            deliver(reply_to, failure(error))
        else:
            if isinstance(value, Pending):
                later = reply_to.dup()
                value._deliver(lambda reply: _deliver_and_close(later, reply))
            else:
                deliver(reply_to, Ok(value))
        if name in self._forking:
            logging.shutdown()
            os._exit(0)

    def _reap(self) -> None:
        for child in list(self._children):
            with suppress(ChildProcessError):
                if os.waitpid(child, os.WNOHANG) == (0, 0):
                    continue
            self._children.discard(child)


def _reply_socket(lent: list[Fd]) -> socket.socket | None:
    """Return the private socket that came as the packet's first descriptor, if it is one."""
    if not lent:
        return None
    copy = os.dup(lent[0].number)  # close-on-exec, as all that Python opens
    try:
        sock = socket.socket(fileno=copy)
    except OSError:  # a file, or anything else that is not a socket
        os.close(copy)
        return None
    if sock.family != socket.AF_UNIX:
        sock.close()
        return None
    return sock


def deliver(reply_to: socket.socket, reply: Ok | Failure) -> None:
    """Send `reply`, and close the descriptors that it gives away."""
    given: list[Fd] = []
    try:
        body, given = pack(reply)
        send(reply_to, body, given)
    except OSError:
        log.debug("the caller went away before its answer")
    finally:
        for fd in given:
            fd.close()


def _deliver_and_close(reply_to: socket.socket, reply: Ok | Failure) -> None:
    with reply_to:
        deliver(reply_to, reply)


def serve(sock: socket.socket, protocol: type, service: Any, forking: Collection[str] = ()) -> None:
    """Answer calls, one at a time, until the other end closes."""
    connection = Connection(sock, Contract(protocol), service, forking)
    while connection.answer_one():
        pass
