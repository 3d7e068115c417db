"""Passwords that are stored with bcrypt, which is slow on purpose: who was right is remembered."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading

import bcrypt

LIMIT = 72  # bytes that bcrypt looks at
REMEMBERED = 1000


class Passwords:
    """Compares passwords with hashes; threads may share it."""

    def __init__(self, rounds: int) -> None:
        """`rounds` is the cost of a guess at somebody who is not there: 2^rounds of bcrypt."""
        # Nobody's password: to refuse an unknown name takes as long as a wrong password.
        self._nobody = bcrypt.hashpw(secrets.token_hex(16).encode(), bcrypt.gensalt(rounds))
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._right: dict[bytes, bytes] = {}  # a keyed hash of name and password → the entry

    def match(self, name: str, password: str, entry: bytes | None) -> bool:
        """Tell whether this is the password whose hash is `entry`; None: there is no such user.

        Only the first look at an entry is slow; of a changed entry nothing is remembered.
        """
        secret = password.encode()
        mark = hmac.digest(self._key, f"{name}\0{password}".encode(), hashlib.sha256)
        with self._lock:
            if entry is not None and self._right.get(mark) == entry:
                return True
        try:
            right = bcrypt.checkpw(secret[:LIMIT], entry or self._nobody)
        except ValueError:  # an entry that bcrypt does not take, or a password with a zero byte
            return False
        if not right or entry is None:
            return False
        with self._lock:
            if len(self._right) >= REMEMBERED:
                self._right.clear()
            self._right[mark] = entry
        return True
