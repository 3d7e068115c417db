"""Passwords that are stored with bcrypt, which is slow on purpose: who was right is remembered."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Sequence

import bcrypt

LIMIT = 72  # bytes that bcrypt looks at
_NOBODY = b"." * 22 + b"/" * 31  # a salt and a hash; that a password has it, nobody will see
REMEMBERED = 1000


class Passwords:
    """Compares passwords with hashes; threads may share it."""

    def __init__(self, rounds: int) -> None:
        """`rounds` is the cost of a guess where there are no entries: 2^rounds of bcrypt."""
        self._rounds = b"%02d" % rounds
        self.entries: Sequence[bytes] = ()  # of all users: what a wrong name should cost
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._right: dict[bytes, bytes] = {}  # a keyed hash of name and password → the entry

    def match(self, name: str, password: str, entry: bytes | None) -> bool:
        """Tell whether this is the password whose hash is `entry`; None: there is no such user.

        Only the first look at an entry is slow; of a changed entry nothing is remembered.
        """
        if entry is not None and self.knows(name, password, entry):
            return True
        try:
            right = bcrypt.checkpw(password.encode()[:LIMIT], entry or self._nobody(name))
        except ValueError:  # an entry that bcrypt does not take, or a password with a zero byte
            return False
        if not right or entry is None:
            return False
        with self._lock:
            if len(self._right) >= REMEMBERED:
                self._right.clear()
            self._right[self._mark(name, password)] = entry
        return True

    def knows(self, name: str, password: str, entry: bytes) -> bool:
        """Tell whether this is remembered to be the password whose hash is `entry`."""
        with self._lock:
            return self._right.get(self._mark(name, password)) == entry

    def _mark(self, name: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{name}\0{password}".encode(), hashlib.sha256)

    def _nobody(self, name: str) -> bytes:
        """Return an entry that no password has, of the cost that one of the users has.

        A name has the same one each time: what is slow once and quick once would be nobody's.
        """
        entries, rounds = self.entries, self._rounds
        if entries:
            chosen = hmac.digest(self._key, name.encode(), hashlib.sha256)
            said = entries[int.from_bytes(chosen[:8]) % len(entries)][4:6]
            rounds = said if said.isdigit() else rounds
        return b"$2b$%s$%s" % (rounds, _NOBODY)
