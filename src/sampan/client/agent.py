"""An SSH agent as a step of a build may use it: to list keys and to sign, and for nothing else.

Source: draft-miller-ssh-agent (frames and numbers); buildkit session/sshforward/sshprovider
(readOnlyAgent: what is refused).
"""

from __future__ import annotations

import socket
from typing import Final

from sampan.errors import InvalidArgument

_LARGEST: Final = 256 << 10  # bytes of a message. Source: openssh-portable ssh-agent.c
_READ: Final = 64 << 10
_PATIENCE: Final = 10.0  # seconds until an agent takes a request; its answer may take longer
_ALLOWED: Final = (11, 13)  # SSH_AGENTC_REQUEST_IDENTITIES, SSH_AGENTC_SIGN_REQUEST
_FAILURE: Final = b"\0\0\0\x01\x05"  # SSH_AGENT_FAILURE


class Agent:
    """One connection with an agent. Requests go one by one, as answers have no numbers."""

    def __init__(self, path: str) -> None:
        """Connect; raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_PATIENCE)
        try:
            self.sock.connect(path)
        except OSError:
            self.sock.close()
            raise
        self._asked, self._answer = bytearray(), bytearray()
        self._waits = False  # for an answer
        self.ended = False  # nobody asks any more

    def fileno(self) -> int:
        """Return the descriptor, for poll(2)."""
        return self.sock.fileno()

    def close(self) -> None:
        """End the connection."""
        self.sock.close()

    @property
    def idle(self) -> bool:
        """Nothing more will be answered."""
        return self.ended and not self._waits

    def ask(self, data: bytes) -> bytes:
        """Take bytes of requests; return what is answered at once. InvalidArgument, OSError."""
        self._asked += data
        return self._next()

    def answer(self) -> bytes | None:
        """Return what the agent says, None if it has left; call it when there is something."""
        data = self.sock.recv(_READ)
        if not data:
            return None
        self._answer += data
        message = _take(self._answer)
        if message is None:
            return b""
        self._waits = False
        return message + self._next()

    def _next(self) -> bytes:
        refused = b""
        while not self._waits and (message := _take(self._asked)) is not None:
            if message[4:5] and message[4] in _ALLOWED:
                self.sock.sendall(message)
                self._waits = True
            else:
                refused += _FAILURE
        return refused


def _take(buffer: bytearray) -> bytes | None:
    """Take the first message from a buffer, with its length; None if it is not complete."""
    if len(buffer) < 4:
        return None
    size = 4 + int.from_bytes(buffer[:4], "big")
    if size > _LARGEST:
        raise InvalidArgument("a message to or from an SSH agent is too long")
    if len(buffer) < size:
        return None
    message = bytes(buffer[:size])
    del buffer[:size]
    return message
