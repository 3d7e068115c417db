"""The daemon's side of the helpers: stand-ins whose socket may be replaced at any time."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from sampan import rpc
from sampan.errors import Unavailable

log = logging.getLogger(__name__)
P = TypeVar("P")
DYING_MILLISECONDS = 200  # between the first and the last descriptor that a killed one closes
REPLACEMENT_SECONDS = 15.0  # for the supervisor to start a helper again


def _hung_up(sock: socket.socket) -> bool:
    """Tell whether the other end is closed, or soon will be.

    A process that is killed closes one descriptor after the other: that of the call it was in
    perhaps before this one.
    """
    poll = select.poll()
    try:
        poll.register(sock, select.POLLRDHUP)
    except ValueError:  # closed by us, as it was replaced
        return True
    return bool(poll.poll(DYING_MILLISECONDS))


class Reconnecting(Generic[P]):
    """Stands in for a contract, over whatever socket was handed over last.

    A call during which the helper dies raises Unavailable, as nobody knows how far it came; a
    call after that waits for the new one, also if nobody has told us of the death yet.
    """

    def __init__(self, protocol: type[P], name: str) -> None:
        self._protocol, self._name = protocol, name
        self._changed = threading.Condition()
        self._sock: socket.socket | None = None
        self._client: P | None = None
        self._is_closed = False

    def replace(self, sock: socket.socket) -> None:
        """Use another socket from now on, and close the old one."""
        client = rpc.connect(self._protocol, sock)
        with self._changed:
            old, self._sock, self._client = self._sock, sock, client
            self._changed.notify_all()
        if old is not None:
            old.close()

    def close(self) -> None:
        """Close the socket; calls that wait for another one, and later ones, raise Unavailable."""
        with self._changed:
            if self._sock is not None:
                self._sock.close()
            self._sock = self._client = None
            self._is_closed = True
            self._changed.notify_all()

    def stand_in(self) -> P:
        """Return an object with the methods of the contract."""
        return cast(P, _StandIn(self))

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the helper that is there now, or that comes soon."""
        end = time.monotonic() + REPLACEMENT_SECONDS
        while True:
            client = self._current(end)
            try:
                return getattr(client, method)(*args, **kwargs)
            except Unavailable as error:
                if rpc.was_sent(error):
                    self._note_end(client, error)
                    raise Unavailable(f"the {self._name} helper is gone: {error}") from error
            self._drop(client)  # it was dead before this call, which the next one gets

    def _note_end(self, client: P, error: Unavailable) -> None:
        """Forget a helper that has died during a call; if it lives, raise what the call did."""
        sock = self._sock
        if sock is not None and not _hung_up(sock):
            with self._changed:
                if self._client is client:
                    raise error  # the child that did this call has ended, or says so itself
        self._drop(client)

    def _drop(self, client: P) -> None:
        with self._changed:
            if self._client is client:
                self._client = None

    def _current(self, end: float) -> P:
        with self._changed:
            patience = end - time.monotonic()
            self._changed.wait_for(lambda: self._client is not None or self._is_closed, patience)
            if self._client is None:
                raise Unavailable(f"the {self._name} helper does not answer")
            return self._client


class _StandIn:
    def __init__(self, helper: Reconnecting[Any]) -> None:
        self._helper = helper

    def __getattr__(self, name: str) -> Callable[..., Any]:
        helper = self._helper

        def call(*args: Any, **kwargs: Any) -> Any:
            return helper.call(name, *args, **kwargs)

        return call
