"""The C library's heap, which each thread would have for itself, and which keeps what is freed."""

from __future__ import annotations

import contextlib
import ctypes

M_ARENA_MAX = -8  # malloc.h


def few_arenas() -> None:
    """Let all threads share two heaps: glibc gives each its own, and keeps what they free."""
    with contextlib.suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def trim() -> None:
    """Give back whole pages that are free, also those below something that is still needed."""
    with contextlib.suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
