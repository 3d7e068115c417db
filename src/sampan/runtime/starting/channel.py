"""What the container's init and its supervisor tell each other: packets of a tag and a text.

Both ends work on plain descriptors with preformatted bytes, so that init can report whatever
happens without importing or looking up anything.
"""

from __future__ import annotations

import os
import socket
import struct

from sampan.errors import SampanError

GO = b"g"  # supervisor → init: id maps are written, go on
HOOKS = b"h"  # init → supervisor: run prestart and createRuntime hooks; answered with GO
MASTER = b"p"  # init → supervisor: the terminal's master, beside the packet
WARNING = b"w"
ERROR = b"e"  # code, NUL, message
CLAIMED = b"s"  # init → caller: the state directory is ours
CGROUP = b"c"  # init → caller: the cgroup is ours
READY = b"r"  # init → supervisor: all is done but for the execution
LISTENER = b"l"  # init → supervisor: the seccomp notification descriptor, beside the packet
BORN = b"b"  # joiner → supervisor: pid of the process it made, pidfd beside it
PACKET = 16384


class Channel:
    """One end of a socketpair."""

    __slots__ = ("sock",)

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Return both ends of a new channel."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.sock.fileno()

    def close(self) -> None:
        """Close this end."""
        self.sock.close()

    def rebind(self, fd: int) -> None:
        """Go on with another descriptor of the same socket; the old one is left open."""
        self.sock.detach()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd)

    def send(self, tag: bytes, text: bytes = b"", fd: int = -1) -> None:
        """Send one packet, with a descriptor beside it if one is given."""
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))] if fd >= 0 else []
        self.sock.sendmsg([tag + text[: PACKET - 1]], beside, socket.MSG_NOSIGNAL)

    def receive(self) -> tuple[bytes, bytes, int]:
        """Return (tag, text, descriptor or -1); the tag is empty when the other end is closed."""
        try:
            packet, beside, _, _ = self.sock.recvmsg(
                PACKET, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            return b"", b"", -1
        fd = -1
        for level, kind, data in beside:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) >= 4:
                fd = struct.unpack("i", data[:4])[0]
        return packet[:1], packet[1:], fd

    def expect(self, tag: bytes) -> None:
        """Wait for one packet; end the process if the other end is gone."""
        if self.receive()[0] != tag:
            os._exit(1)

    def fail(self, error: BaseException) -> None:
        """Send an error; what is none of ours goes as internal."""
        code = error.code if isinstance(error, SampanError) else "internal"
        text = str(error) if isinstance(error, SampanError) else f"{type(error).__name__}: {error}"
        try:
            self.send(ERROR, code.encode() + b"\0" + text.encode("utf-8", "replace"))
        except OSError:
            pass  # the supervisor is gone: nobody is left to tell


def reason(error: OSError) -> str:
    """Return the text of an error number as Go's programs print it: in lower case."""
    return (error.strerror or str(error)).lower()
