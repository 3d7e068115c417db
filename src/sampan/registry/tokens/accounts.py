"""Accounts of a token service: users with bcrypt passwords, groups, rules. A file of SQLite.

Commands write to it beside the service, which sees every change with the next request.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import bcrypt

from sampan.errors import Conflict, InvalidArgument, NotFound
from sampan.registry.auth.passwords import LIMIT, Passwords
from sampan.registry.tokens.rules import GROUP, USER, Identity, Rule, account

ROUNDS = 11  # 2^11 of bcrypt: a tenth of a second for each guess
VERSION = 1
_SCHEMA = """
CREATE TABLE users (name TEXT PRIMARY KEY, password TEXT NOT NULL,
    disabled INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL);
CREATE TABLE groups (name TEXT PRIMARY KEY);
CREATE TABLE members (
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    member_of TEXT NOT NULL REFERENCES groups (name) ON DELETE CASCADE,
    PRIMARY KEY (user, member_of));
CREATE TABLE rules (number INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL,
    type TEXT NOT NULL, pattern TEXT NOT NULL, actions TEXT NOT NULL,
    UNIQUE (subject, type, pattern));
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, secret BLOB NOT NULL, family TEXT NOT NULL,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    service TEXT NOT NULL, client TEXT NOT NULL, created REAL NOT NULL,
    used REAL NOT NULL, expires REAL NOT NULL, replaced REAL);
CREATE INDEX sessions_by_user ON sessions (user, used);
CREATE INDEX sessions_by_family ON sessions (family);
"""
_INDEX = "CREATE INDEX IF NOT EXISTS users_by_cost ON users (substr(password, 5, 2))"
# The costs of bcrypt that there are, each found from the one before: for GROUP BY, SQLite reads
# the hashes of all users.
_COSTS = """
WITH RECURSIVE costs (cost) AS (
    SELECT (SELECT substr(password, 5, 2) FROM users ORDER BY substr(password, 5, 2) LIMIT 1)
    UNION ALL
    SELECT (SELECT substr(password, 5, 2) FROM users WHERE substr(password, 5, 2) > cost
        ORDER BY substr(password, 5, 2) LIMIT 1)
    FROM costs WHERE cost IS NOT NULL)
SELECT cost FROM costs WHERE cost IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class User:
    """One user, without the password."""

    name: str
    disabled: bool
    created: float
    groups: tuple[str, ...]


class Accounts:
    """Whom a token service knows, and what they may do. Calls block; threads may share it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.RLock()
        _make(path)
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA foreign_keys = ON")
        self._passwords = Passwords(ROUNDS)
        with self.change() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise InvalidArgument(f"{path} was made by a newer version")
            if version < VERSION:
                for statement in _SCHEMA.split(";\n"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute(_INDEX)  # also in a file of an older program

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Be the only one who changes the file; undone if it raises."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask."""
        with self._lock:
            found: list[tuple[Any, ...]] = self._database.execute(query, values).fetchall()
        return found

    # --- users

    def add_user(self, name: str, password: str, groups: Sequence[str] = ()) -> None:
        """Make a user; raise Conflict if the name is taken."""
        self.add_hashed_user(name, _hash(password), groups)

    def add_hashed_user(self, name: str, password: str, groups: Sequence[str] = ()) -> None:
        """Make a user whose password is hashed with bcrypt already."""
        account(name)
        with self.change() as database:
            try:
                database.execute(
                    "INSERT INTO users (name, password, created) VALUES (?, ?, ?)",
                    (name, password, time.time()),
                )
            except sqlite3.IntegrityError:
                raise Conflict(f"user {name} is there already") from None
            for group in groups:
                self._join(database, name, group)

    def set_password(self, name: str, password: str) -> None:
        """Give a user another password, which ends all that the old one began."""
        hashed = _hash(password)
        with self.change() as database:
            done = database.execute("UPDATE users SET password = ? WHERE name = ?", (hashed, name))
            _demand(done, f"user {name}")
            database.execute("DELETE FROM sessions WHERE user = ?", (name,))

    def disable(self, name: str, disabled: bool) -> None:
        """Shut a user out, or let them in again."""
        with self.change() as database:
            done = database.execute(
                "UPDATE users SET disabled = ? WHERE name = ?", (disabled, name)
            )
            _demand(done, f"user {name}")
            if disabled:
                database.execute("DELETE FROM sessions WHERE user = ?", (name,))

    def remove_user(self, name: str) -> None:
        """Remove a user with their rules: who gets the name later inherits nothing."""
        with self.change() as database:
            _demand(database.execute("DELETE FROM users WHERE name = ?", (name,)), f"user {name}")
            database.execute("DELETE FROM rules WHERE subject = ?", (USER + name,))

    def users(self) -> list[User]:
        """Return all users in the order of their names."""
        query = "SELECT name, disabled, created FROM users ORDER BY name"
        return [
            User(name, bool(disabled), created, self._groups_of(name))
            for name, disabled, created in self.rows(query)
        ]

    def _groups_of(self, name: str) -> tuple[str, ...]:
        query = "SELECT member_of FROM members WHERE user = ? ORDER BY member_of"
        return tuple(group for (group,) in self.rows(query, name))

    def identity(self, name: str) -> Identity | None:
        """Return who a user is now; None if they are gone or shut out."""
        if not self.rows("SELECT 1 FROM users WHERE name = ? AND NOT disabled", name):
            return None
        return Identity(name, self._groups_of(name))

    def check(self, name: str, password: str) -> Identity | None:
        """Return who has this name and password; a wrong name takes as long as a wrong password."""
        found = self.rows("SELECT password FROM users WHERE name = ? AND NOT disabled", name)
        self._passwords.entries = [f"$2b${cost}$".encode() for (cost,) in self.rows(_COSTS)]
        if len(password.encode()) > LIMIT:
            return None
        entry = found[0][0].encode() if found else None
        return self.identity(name) if self._passwords.match(name, password, entry) else None

    # --- groups

    def add_group(self, name: str) -> None:
        """Make a group; raise Conflict if the name is taken."""
        account(name)
        with self.change() as database:
            try:
                database.execute("INSERT INTO groups VALUES (?)", (name,))
            except sqlite3.IntegrityError:
                raise Conflict(f"group {name} is there already") from None

    def remove_group(self, name: str) -> None:
        """Remove a group with its rules."""
        with self.change() as database:
            _demand(database.execute("DELETE FROM groups WHERE name = ?", (name,)), f"group {name}")
            database.execute("DELETE FROM rules WHERE subject = ?", (GROUP + name,))

    def join(self, user: str, group: str) -> None:
        """Put a user into a group."""
        with self.change() as database:
            self._join(database, user, group)

    def _join(self, database: sqlite3.Connection, user: str, group: str) -> None:
        for kind, name in (("user", user), ("group", group)):
            query = f"SELECT 1 FROM {kind}s WHERE name = ?"  # noqa: S608 our own words
            if not database.execute(query, (name,)).fetchone():
                raise NotFound(f"{kind} {name} is not there")
        database.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", (user, group))

    def leave(self, user: str, group: str) -> None:
        """Take a user out of a group."""
        with self.change() as database:
            done = database.execute(
                "DELETE FROM members WHERE user = ? AND member_of = ?", (user, group)
            )
            _demand(done, f"user {user} in group {group}")

    def groups(self) -> list[tuple[str, list[str]]]:
        """Return all groups with their members."""
        query = "SELECT user FROM members WHERE member_of = ? ORDER BY user"
        return [
            (name, [user for (user,) in self.rows(query, name)])
            for (name,) in self.rows("SELECT name FROM groups ORDER BY name")
        ]

    # --- rules

    def add_rule(self, rule: Rule) -> int:
        """Add a rule, or change that of the same subject and pattern; return its number."""
        with self.change() as database:
            kind, _, name = rule.subject.partition(":")
            if name:
                query = f"SELECT 1 FROM {kind}s WHERE name = ?"  # noqa: S608 our own words
                if not database.execute(query, (name,)).fetchone():
                    raise NotFound(f"{kind} {name} is not there")
            row = database.execute(
                "INSERT INTO rules (subject, type, pattern, actions) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (subject, type, pattern) DO UPDATE SET actions = excluded.actions"
                " RETURNING number",
                (rule.subject, rule.type, rule.pattern, ",".join(rule.actions)),
            ).fetchone()
        return int(row[0])

    def remove_rule(self, number: int) -> None:
        """Remove a rule."""
        with self.change() as database:
            done = database.execute("DELETE FROM rules WHERE number = ?", (number,))
            _demand(done, f"rule {number}")

    def rules(self) -> list[Rule]:
        """Return all rules in the order in which they were added."""
        query = "SELECT subject, type, pattern, actions, number FROM rules ORDER BY number"
        return [
            Rule(subject, kind, pattern, tuple(actions.split(",")), number)
            for subject, kind, pattern, actions, number in self.rows(query)
        ]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make(path: Path) -> None:
    """Make a file that is nobody else's business; one that is no link to elsewhere."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _hash(password: str) -> str:
    secret = password.encode()
    if not 1 <= len(secret) <= LIMIT or b"\0" in secret:
        raise InvalidArgument(f"a password has 1 to {LIMIT} bytes, none of them zero")
    return bcrypt.hashpw(secret, bcrypt.gensalt(ROUNDS)).decode()


def _demand(done: sqlite3.Cursor, what: str) -> None:
    if not done.rowcount:
        raise NotFound(f"{what} is not there")
