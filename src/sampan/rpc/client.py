"""The calling side of a contract: an object with the methods of the Protocol."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from sampan.errors import DeadlineExceeded, Internal, SampanError, Unavailable
from sampan.rpc.contract import Contract, Failure, Fd, pack, receive, send, unpack

P = TypeVar("P")


class Client:
    """Stands in for the service: a method packs its arguments, sends them and waits.

    May be used from several threads at once: each call has a reply socket of its own.
    """

    def __init__(self, protocol: type, sock: socket.socket, deadline: float | None = None) -> None:
        self._contract, self._sock, self._deadline = Contract(protocol), sock, deadline

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in self._contract.requests:
            raise AttributeError(name)
        return partial(self._call, name)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        positional = self._contract.positional[name]
        if len(args) > len(positional):
            raise TypeError(f"{name} takes {len(positional)} positional arguments")
        named = dict(zip(positional, args, strict=False))
        body, lent = pack(self._contract.requests[name](**named, **kwargs))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                try:
                    send(self._sock, body, [Fd(theirs.fileno()), *lent])
                except OSError as error:
                    # Ours may have been closed; where it is not, what is lent is no descriptor.
                    if not isinstance(error, ConnectionError) and self._sock.fileno() >= 0:
                        raise
                    raise Unavailable("the privileged helper is gone") from error
            ours.settimeout(self._deadline)
            try:
                body, given = receive(ours)
            except TimeoutError as error:
                raise DeadlineExceeded(f"{name} took longer than {self._deadline} s") from error
            except ConnectionError:
                body, given = b"", []
        if not body:
            raise Unavailable("the privileged helper ended before it answered")
        reply = unpack(self._contract.replies[name], body, given)
        if isinstance(reply, Failure):
            raise SampanError.by_code.get(reply.code, Internal)(reply.message)
        return reply.value


def was_sent(error: Unavailable) -> bool:
    """Tell whether somebody may have begun to carry out the call that ended in `error`."""
    return not isinstance(error.__cause__, OSError)


def connect(protocol: type[P], sock: socket.socket, deadline: float | None = None) -> P:
    """Return a stand-in for `protocol` that asks the process at the other end of `sock`.

    A call that takes longer than `deadline` seconds raises DeadlineExceeded; None waits for ever.
    """
    return cast(P, Client(protocol, sock, deadline))
