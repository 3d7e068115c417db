"""Refresh tokens: what a client keeps instead of a password. Only their hashes are stored.

Docker's clients keep the first one that they get, so by default it stays. Where rotation is wanted,
each use gives another one; one that comes back after that was stolen, and ends all of its family.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import sqlite3
import time
from dataclasses import dataclass

from sampan.registry.tokens.accounts import Accounts

log = logging.getLogger(__name__)
GRACE = 60.0  # seconds in which a replaced token still works: a client may ask twice at once
EACH = 200  # sessions of one user; the one that was not used for longest gives way
CLIENT_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Session:
    """One login that goes on."""

    id: str
    user: str
    service: str
    client: str
    created: float
    used: float
    expires: float


class Sessions:
    """All refresh tokens. Calls block; threads may share it."""

    def __init__(self, accounts: Accounts, lifetime: float, rotate: bool) -> None:
        """`lifetime` is how long a token may be left unused, in seconds."""
        self._accounts = accounts
        self._lifetime = lifetime
        self._rotate = rotate

    def begin(self, user: str, service: str, client: str, family: str = "") -> str:
        """Return a new refresh token."""
        with self._accounts.change() as database:
            return self._begin(database, user, service, client, family)

    def _begin(
        self, database: sqlite3.Connection, user: str, service: str, client: str, family: str
    ) -> str:
        key, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        now = time.time()
        # Not those that have expired: had the clock jumped ahead, that would be all of them.
        database.execute(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE user = ?"
            " ORDER BY used DESC, id LIMIT -1 OFFSET ?)",
            (user, EACH - 1),
        )
        database.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                *(key, _hash(secret), family or key, user, service, client[:CLIENT_LENGTH]),
                *(now, now, now + self._lifetime),
            ),
        )
        return f"{key}.{secret}"

    def use(self, token: str, service: str) -> tuple[str, str] | None:
        """Return whose a token is and what replaces it, if anything does; None if it is none."""
        key, _, secret = token.partition(".")
        query = "SELECT secret, family, user, service, client, expires, replaced"
        found = self._accounts.rows(f"{query} FROM sessions WHERE id = ?", key)
        if not found:
            return None
        kept, family, user, made_for, client, expires, replaced = found[0]
        now = time.time()
        if not hmac.compare_digest(kept, _hash(secret)) or made_for != service or expires < now:
            return None
        if replaced is not None and abs(now - replaced) > GRACE:
            log.warning("a refresh token of %s came back after its use; its family ends", user)
            with self._accounts.change() as database:
                database.execute("DELETE FROM sessions WHERE family = ?", (family,))
            return None
        with self._accounts.change() as database:
            done = database.execute(
                "UPDATE sessions SET used = ?, expires = ?, replaced = coalesce(replaced, ?)"
                " WHERE id = ?",
                (now, now + self._lifetime, now if self._rotate else None, key),
            )
            if not done.rowcount:  # it has ended since we have looked: so has its family
                return None
            again = self._begin(database, user, service, client, family) if self._rotate else ""
        return user, again

    def revoke(self, token: str) -> None:
        """End a login, by any token of its family; nothing happens if it is none."""
        key, _, secret = token.partition(".")
        found = self._accounts.rows("SELECT secret, family FROM sessions WHERE id = ?", key)
        if found and hmac.compare_digest(found[0][0], _hash(secret)):
            with self._accounts.change() as database:
                database.execute("DELETE FROM sessions WHERE family = ?", (found[0][1],))

    def end(self, user: str = "", id: str = "") -> int:
        """End all logins of a user, or one; return how many tokens that were."""
        with self._accounts.change() as database:
            done = database.execute(
                "DELETE FROM sessions WHERE user = ? OR family ="
                " (SELECT family FROM sessions WHERE id = ?)",
                (user, id),
            )
            return done.rowcount

    def all(self) -> list[Session]:
        """Return the logins that go on, the last used first."""
        query = (
            "SELECT id, user, service, client, created, used, expires FROM sessions"
            " WHERE replaced IS NULL AND expires >= ? ORDER BY used DESC"
        )
        return [Session(*row) for row in self._accounts.rows(query, time.time())]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()  # 256 random bits need no slow hash
