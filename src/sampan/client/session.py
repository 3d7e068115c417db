"""A session: what the daemon may ask of us while it builds; `client.lent` says what that is.

One thread with one poll(2) serves it, on a connection of its own. h2 and protobuf are loaded by
those builds alone that lend something. Source: buildkit session/sshforward.
"""

from __future__ import annotations

import os
import secrets
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from sampan.client.agent import Agent
from sampan.client.calls import NOT_FOUND, UNIMPLEMENTED, UNKNOWN, Call, Calls
from sampan.client.lent import Lent
from sampan.errors import InvalidArgument, NotFound
from sampan.spec.buildkit import session_pb2 as pb
from sampan.spec.buildkit.session_methods import AGENT_ID, FORWARD_AGENT, UPLOAD

if TYPE_CHECKING:
    from sampan.client.api import Client
    from sampan.client.connection import Connection

_PREFIX: Final = "X-Docker-Expose-Session"


class Session:
    """Serves what is lent until it is closed; `id` is for the build's query."""

    def __init__(self, client: Client, lent: Lent) -> None:
        """Open it; the client's errors."""
        self.id = secrets.token_hex(16)
        headers: dict[str, str | list[str]] = {
            "Connection": "Upgrade",
            "Upgrade": "h2c",
            f"{_PREFIX}-Uuid": self.id,
            f"{_PREFIX}-Name": "sampan",
            f"{_PREFIX}-Grpc-Method": lent.methods(),
        }
        self._connection = client.open("POST", "/session", None, None, headers).connection
        self._service = _Service(self._connection, lent)
        self._thread = threading.Thread(target=self._service.run, name="session", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._service.stop()
        self._thread.join()
        self._service.close()
        self._connection.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Service:
    """Answers the calls of one connection."""

    def __init__(self, connection: Connection, lent: Lent) -> None:
        self._connection, self._lent = connection, lent
        self._calls = Calls(self._begin, self._message, self._end, self._close)
        self._agents: dict[int, Call] = {}  # by the descriptor of the agent's connection
        self._unsent = bytearray()
        self._awake, self._wake = os.pipe()

    def stop(self) -> None:
        """Have `run` return soon."""
        os.write(self._wake, b"x")

    def run(self) -> None:
        """Serve until the daemon leaves."""
        self._connection.sock.setblocking(False)
        try:
            while self._turn():
                pass
        except (OSError, InvalidArgument):
            pass  # the build, which needs the session, tells what is wrong
        finally:
            self._calls.close()

    def close(self) -> None:
        """Close what `stop` needs."""
        os.close(self._awake)
        os.close(self._wake)

    def _turn(self) -> bool:
        self._unsent += self._calls.h2.data_to_send()
        del self._unsent[: self._connection.send_now(bytes(self._unsent))]
        poll, sock = select.poll(), self._connection.sock.fileno()
        poll.register(sock, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        for descriptor in (self._awake, *self._agents):
            poll.register(descriptor, select.POLLIN)
        ready = dict(poll.poll(0 if self._connection.has_buffered() else None))
        if self._awake in ready:
            return False
        for descriptor in self._agents.keys() & ready.keys():
            self._answered(self._agents[descriptor])
        while (data := self._connection.read_now()) is not None:
            if not (data and self._calls.receive(data)):
                return False
            if not self._connection.has_buffered():
                break
        return True

    # --- calls -----------------------------------------------------------------------------

    def _begin(self, call: Call) -> None:
        if call.method == FORWARD_AGENT:
            self._attempt(call, lambda: self._connect(call))
        elif call.method == UPLOAD and self._lent.folders:  # who asks for an archive says no more
            self._attempt(call, lambda: self._lent.pull(call))
        elif call.method not in self._lent.methods():
            call.finish(UNIMPLEMENTED, f"unknown method {call.method}")

    def _message(self, call: Call, message: bytes) -> None:
        if call.handler is not None:
            self._attempt(call, lambda: self._ask(call, message))
        elif call.method != FORWARD_AGENT:
            self._attempt(call, lambda: self._lent.answer(call, message))

    def _attempt(self, call: Call, work: Callable[[], None]) -> None:
        try:
            work()
        except NotFound as error:
            call.finish(NOT_FOUND, str(error))
        except (InvalidArgument, OSError, DecodeError) as error:
            call.finish(UNKNOWN, str(error))

    # --- agents ----------------------------------------------------------------------------

    def _connect(self, call: Call) -> None:
        agent = Agent(self._lent.agent(call.headers.get(AGENT_ID, "")))
        call.handler = agent
        self._agents[agent.fileno()] = call

    def _ask(self, call: Call, message: bytes) -> None:
        self._say(call, call.handler.ask(pb.BytesMessage.FromString(message).data))

    def _answered(self, call: Call) -> None:
        def take() -> None:
            data = call.handler.answer()
            self._say(call, data or b"")
            if data is None or call.handler.idle:
                call.finish()

        self._attempt(call, take)

    def _say(self, call: Call, data: bytes) -> None:
        if data:
            call.send(pb.BytesMessage(data=data).SerializeToString())

    def _end(self, call: Call) -> None:
        if call.handler is not None:
            call.handler.ended = True
            if call.handler.idle:
                call.finish()

    def _close(self, call: Call) -> None:
        if call.handler is not None:
            self._agents.pop(call.handler.fileno(), None)
            call.handler.close()
