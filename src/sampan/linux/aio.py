"""fsync(2) of several files at once, by the kernel's asynchronous I/O (io_submit(2)).

A file system then writes its journal once for all of them, and the disk is asked once to empty its
cache. One after the other, each file waits for both again.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from typing import Final

from sampan.linux.libc import NR, error, syscall

IOCB_CMD_FSYNC: Final = 2  # linux/aio_abi.h; for files since Linux 4.18
SLOTS: Final = 32  # files at once, of one thread; /proc/sys/fs/aio-max-nr bounds those of all


class _Iocb(ctypes.Structure):
    """struct iocb, linux/aio_abi.h."""

    _fields_ = (
        *(("data", ctypes.c_uint64), ("key", ctypes.c_uint32), ("rw_flags", ctypes.c_int32)),
        *(("opcode", ctypes.c_uint16), ("reqprio", ctypes.c_int16), ("fildes", ctypes.c_uint32)),
        *(("buf", ctypes.c_uint64), ("nbytes", ctypes.c_uint64), ("offset", ctypes.c_int64)),
        *(("reserved2", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("resfd", ctypes.c_uint32)),
    )


class _Event(ctypes.Structure):
    """struct io_event, linux/aio_abi.h."""

    _fields_ = (
        *(("data", ctypes.c_uint64), ("obj", ctypes.c_uint64)),
        *(("res", ctypes.c_int64), ("res2", ctypes.c_int64)),
    )


class _Context:
    """Where the kernel keeps what one thread has asked for."""

    process = 0

    def __init__(self) -> None:
        """Raises OSError where there are no contexts, or no more of them."""
        self._wanted = (_Iocb * SLOTS)()
        for one in self._wanted:
            one.opcode = IOCB_CMD_FSYNC
        first = ctypes.addressof(self._wanted)
        places = range(first, first + ctypes.sizeof(self._wanted), ctypes.sizeof(_Iocb))
        self._pointers = (ctypes.c_void_p * SLOTS)(*places)
        self._events = (_Event * SLOTS)()
        self._id = ctypes.c_ulong(0)
        syscall(NR["io_setup"], SLOTS, ctypes.byref(self._id))
        self.process = os.getpid()  # a child does not have it

    def fsync(self, descriptors: Sequence[int]) -> int:
        """Sync the first files, and return how many: none if the kernel does not take them.

        Raises OSError if one of them fails.
        """
        for wanted, descriptor in zip(self._wanted, descriptors, strict=False):
            wanted.fildes = descriptor
        asked = min(SLOTS, len(descriptors))
        try:
            count = syscall(NR["io_submit"], self._id.value, asked, self._pointers)
        except OSError:
            return 0
        results: list[int] = []
        while len(results) < count:  # nobody may go on while the kernel works on a file
            results += self._results(count - len(results))
        if failed := min(results):
            raise error(-failed)
        return count

    def _results(self, count: int) -> list[int]:
        """Wait for `count` results; return those that came before a signal did."""
        events = self._events
        try:
            got = syscall(NR["io_getevents"], self._id.value, count, count, events)
        except InterruptedError:
            return []
        return [event.res for event in events[:got]]

    def __del__(self) -> None:
        if self.process == os.getpid():
            syscall(NR["io_destroy"], self._id.value)


_local = threading.local()


def fsync(descriptors: Sequence[int]) -> None:
    """Return when all files outlast a power failure; raise OSError if one of them may not."""
    done = 0
    context = _context() if len(descriptors) > 1 else None
    while context and done < len(descriptors):
        try:
            synced = context.fsync(descriptors[done:])
        except BaseException:  # whoever interrupts us leaves results there, for nobody
            _local.context = None
            raise
        if not synced:
            break
        done += synced
    for descriptor in descriptors[done:]:
        os.fsync(descriptor)


def _context() -> _Context | None:
    """Return what this thread has; None where the kernel gives nothing."""
    context: _Context | None = getattr(_local, "context", None)
    if context is None or context.process != os.getpid():
        try:
            context = _local.context = _Context()
        except (KeyError, OSError):  # another machine, a seccomp filter, too many contexts
            return None
    return context
