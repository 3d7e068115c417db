"""Memory that keeper and forker share, so that a killed keeper loses no byte it has read.

Before the keeper takes bytes out of a pipe it notes here which stream, how many and how large the
log was; the bytes themselves are read into this memory. After its death the forker reads the note:
the bytes are logged (again, after the log was cut to its old size), then relaying goes on with the
next byte of the pipe. What remains of each stream without a newline is kept here too, twice in
turn, so that a note that must be worked off again finds the remainder from before.

All is in one sparse file in the run root, mapped by both: pages are only used once they are
written, and when both halves are gone the next spawner still finds what they had in their hands.
"""

from __future__ import annotations

import array
import ctypes
import fcntl
import mmap
import os
import struct
import termios
from dataclasses import dataclass
from pathlib import Path

from sampan.linux.libc import libc
from sampan.logs.driver import LINE_BYTES

SLOTS = 4096  # streams with a log at one time; each task with a log takes two
CHUNK = 128 << 10  # read at once
NO_SLOT = -1

PUNCH_HOLE = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE and KEEP_SIZE, linux/falloc.h
_PAGE = 4096
_NOTE = struct.Struct("<QQqIB")  # number, size of the log, slot, bytes, state
_REST = struct.Struct("<QI")  # number of the note that wrote it, bytes
_IDLE, _READING, _READ = 0, 1, 2
_NONCE, _NONCE_AT = 16, 64

_RESTS = _PAGE
_BUFFER = _RESTS + SLOTS * 2 * 16
_DATA = _BUFFER + CHUNK  # from here on written, not mapped
_SIZE = _DATA + SLOTS * 2 * LINE_BYTES


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a killed keeper had read and not finished."""

    slot: int
    data: bytes
    log_size: int  # before the data was logged


class Journal:
    """The shared memory; made before the halves part, used by the keeper alone while it lives."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        fresh = os.fstat(self._fd).st_size != _SIZE
        if fresh:
            os.ftruncate(self._fd, 0)
            os.ftruncate(self._fd, _SIZE)
        # Touching a page for which the disk has no room would be SIGBUS.
        os.posix_fallocate(self._fd, 0, _DATA)
        self._memory = mmap.mmap(self._fd, _DATA, mmap.MAP_SHARED)
        self._buffer = memoryview(self._memory)[_BUFFER : _BUFFER + CHUNK]
        self._count = array.array("i", [0])
        self._nonce = bytes(self._memory[_NONCE_AT : _NONCE_AT + _NONCE])
        if fresh:
            self._new_nonce()
        self._number = 0

    def clear(self) -> None:
        """Forget everything: no task of the spawner before is left."""
        os.ftruncate(self._fd, _DATA)
        os.ftruncate(self._fd, _SIZE)
        self._memory[:_BUFFER] = bytes(_BUFFER)
        self._new_nonce()
        self._number = 0

    def _new_nonce(self) -> None:
        self._nonce = os.urandom(_NONCE)
        self._memory[_NONCE_AT : _NONCE_AT + _NONCE] = self._nonce

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
        try:
            os.pwrite(self._fd, rest, at)
        except OSError:
            return  # no room in the run root: this remainder is not safe from a crash
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
                found = os.pread(self._fd, min(size, LINE_BYTES), at)
        return found

    def forget(self, slot: int) -> None:
        """Give a slot back."""
        if slot == NO_SLOT:
            return
        used = False
        for half in (0, 1):
            used |= _REST.unpack_from(self._memory, _rest_at(slot, half))[0] > 0
            _REST.pack_into(self._memory, _rest_at(slot, half), 0, 0)
        if used:
            punch_hole(self._fd, _DATA + slot * 2 * LINE_BYTES, 2 * LINE_BYTES)

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


def punch_hole(descriptor: int, start: int, length: int) -> None:
    """Give the pages of a file back, where its file system can; see fallocate(2)."""
    libc.fallocate(descriptor, PUNCH_HOLE, ctypes.c_long(start), ctypes.c_long(length))


def _rest_at(slot: int, half: int) -> int:
    return _RESTS + (slot * 2 + half) * 16
