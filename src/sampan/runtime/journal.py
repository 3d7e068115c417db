"""Memory that keeper and forker share, so that a killed keeper loses no byte it has read.

Before the keeper takes bytes out of a pipe it notes here which stream, how many and how large the
log was; the bytes themselves are read into this memory. After its death the forker reads the note:
the bytes are logged (again, after the log was cut to its old size), then relaying goes on with the
next byte of the pipe. What remains of each stream without a newline is kept here too, twice in
turn, so that a note that must be worked off again finds the remainder from before.

All is in one anonymous shared mapping: pages are only used once they are written.
"""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import secrets
import struct
import termios
from dataclasses import dataclass

from sampan.logs.driver import LINE_BYTES

SLOTS = 4096  # streams with a log at one time; each task with a log takes two
CHUNK = 128 << 10  # read at once
NO_SLOT = -1

MAP_NORESERVE = 0x4000  # asm-generic/mman.h
_PAGE = 4096
_NOTE = struct.Struct("<QQqIB")  # number, size of the log, slot, bytes, state
_REST = struct.Struct("<QI")  # number of the note that wrote it, bytes
_IDLE, _READING, _READ = 0, 1, 2
_NONCE = 16

_RESTS = _PAGE
_RESTS_SIZE = SLOTS * 2 * 16
_DATA = _RESTS + _RESTS_SIZE
_BUFFER = _DATA + SLOTS * 2 * LINE_BYTES
_SIZE = _BUFFER + CHUNK + _PAGE


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a killed keeper had read and not finished."""

    slot: int
    data: bytes
    log_size: int  # before the data was logged


class Journal:
    """The shared memory; made before the halves part, used by the keeper alone while it lives."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _SIZE, mmap.MAP_SHARED | MAP_NORESERVE)
        self._buffer = memoryview(self._memory)[_BUFFER : _BUFFER + CHUNK]
        self._count = array.array("i", [0])
        self._nonce = secrets.token_bytes(_NONCE)
        self._number = 0

    def read(self, descriptor: int, slot: int, log_size: int) -> bytes:
        """Read what is in a pipe, at most CHUNK; call `done` when it is where it belongs.

        Returns b"" at the end of the stream. Raises OSError as read(2).
        """
        fcntl.ioctl(descriptor, termios.FIONREAD, self._count)
        size = min(self._count[0], CHUNK)
        if not size:
            return os.read(descriptor, 1)  # the end, or EAGAIN: nobody else reads
        self._number += 1
        mark = min(size, _NONCE)
        self._buffer[size - mark : size] = self._nonce[:mark]
        _NOTE.pack_into(self._memory, 0, self._number, log_size, slot, size, _READING)
        # A pipe gives exactly what it said it has.
        count = os.readv(descriptor, [self._buffer[:size]])
        _NOTE.pack_into(self._memory, 0, self._number, log_size, slot, count, _READ)
        return bytes(self._buffer[:count])

    def done(self) -> None:
        """The bytes read last, and the remainder of their stream, are safe."""
        _NOTE.pack_into(self._memory, 0, self._number, 0, NO_SLOT, 0, _IDLE)

    def keep(self, slot: int, rest: bytes) -> None:
        """Keep what a stream has written after its last newline."""
        if slot == NO_SLOT:
            return
        written = [_REST.unpack_from(self._memory, _rest_at(slot, half))[0] for half in (0, 1)]
        half = 0 if written[0] <= written[1] else 1  # the older copy makes room
        at = _DATA + (slot * 2 + half) * LINE_BYTES
        self._memory[at : at + len(rest)] = rest
        _REST.pack_into(self._memory, _rest_at(slot, half), self._number, len(rest))

    def rest(self, slot: int) -> bytes:
        """Return what was kept, from before the note that is unfinished if there is one."""
        if slot == NO_SLOT:
            return b""
        number, _, of, _, state = _NOTE.unpack_from(self._memory, 0)
        limit = number if state != _IDLE and of == slot else number + 1
        best, found = 0, b""
        for half in (0, 1):
            written, size = _REST.unpack_from(self._memory, _rest_at(slot, half))
            if best <= written < limit and written:
                best = written
                at = _DATA + (slot * 2 + half) * LINE_BYTES
                found = self._memory[at : at + min(size, LINE_BYTES)]
        return found

    def forget(self, slot: int) -> None:
        """Give a slot back."""
        if slot == NO_SLOT:
            return
        for half in (0, 1):
            _REST.pack_into(self._memory, _rest_at(slot, half), 0, 0)
        start = _DATA + slot * 2 * LINE_BYTES
        self._memory.madvise(mmap.MADV_REMOVE, start, 2 * LINE_BYTES)

    def unfinished(self) -> Unfinished | None:
        """Return what the keeper that died had in its hands."""
        number, log_size, slot, size, state = _NOTE.unpack_from(self._memory, 0)
        self._number = number
        if state == _IDLE:
            return None
        data = bytes(self._buffer[:size])
        mark = min(size, _NONCE)
        if state == _READING and data.endswith(self._nonce[:mark]):
            return None  # it died before the pipe was read
        return Unfinished(slot, data, log_size)

    def resume(self) -> None:
        """Take the place of the keeper that died, after `unfinished` was worked off."""
        self._number = max(self._number, _NOTE.unpack_from(self._memory, 0)[0])
        self.done()


def _rest_at(slot: int, half: int) -> int:
    return _RESTS + (slot * 2 + half) * 16
