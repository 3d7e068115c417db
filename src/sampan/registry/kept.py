"""Answers to questions about lists, kept as bytes until a change makes them wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Set
from dataclasses import dataclass

BYTES = 8 << 20  # of all answers together
LARGEST = 2 << 20  # of one: what is larger is not kept
OVERHEAD = 512  # bytes that an answer costs beside its own

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer, and where the next page goes on; empty at the end."""

    body: bytes
    last: str = ""


class Kept:
    """Answers by what was asked; the first word of a key is the repository, "" for the catalog.

    What is asked most recently stays longest. An answer that was made while something changed
    is not kept.
    """

    def __init__(self, limit: int = BYTES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._answers: dict[Key, Answer] = {}
        self._keys: dict[str, set[Key]] = {}
        self._size = 0
        self._changes = 0

    def get(self, key: Key) -> Answer | None:
        """Return what was answered before; None if that is not known."""
        with self._lock:
            found = self._answers.pop(key, None)
            if found is not None:
                self._answers[key] = found
            return found

    def make(self, key: Key, ask: Callable[[], Answer]) -> Answer:
        """Ask, and keep the answer."""
        with self._lock:
            before = self._changes
        answer = ask()
        size = len(answer.body) + OVERHEAD
        with self._lock:
            if before == self._changes and size <= LARGEST and key not in self._answers:
                self._answers[key] = answer
                self._keys.setdefault(key[0], set()).add(key)
                self._size += size
                while self._size > self._limit:
                    self._remove(next(iter(self._answers)))
        return answer

    def forget(self, subjects: Set[str]) -> None:
        """Forget what was said of these repositories; "" is the catalog."""
        with self._lock:
            self._changes += 1
            for subject in subjects:
                for key in list(self._keys.get(subject, ())):
                    self._remove(key)

    def _remove(self, key: Key) -> None:
        self._size -= len(self._answers.pop(key).body) + OVERHEAD
        keys = self._keys[key[0]]
        keys.remove(key)
        if not keys:
            del self._keys[key[0]]
