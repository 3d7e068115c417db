"""The signals that a daemon takes: held while there is nobody who could clean up after one.

This module runs in the supervisor: it imports little.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

WATCHED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGQUIT,
)


@contextmanager
def held() -> Iterator[None]:
    """Have signals wait: none ends this process in the middle of what has to be undone.

    They wait until `let_in`, or the end of the block. Programs that are executed meanwhile inherit
    this: nothing that lasts may be among them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_in() -> None:
    """Take signals, those that have waited first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
