"""Auth `htpasswd`: users with bcrypt passwords in a file, which is read anew when it changes."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path

import bcrypt
from starlette.requests import Request

from sampan.errors import InvalidArgument
from sampan.registry.auth.access import Everything, Grant, Scope
from sampan.registry.auth.basic import credentials
from sampan.registry.auth.passwords import Passwords
from sampan.registry.errors import RegistryError

log = logging.getLogger(__name__)
LIMIT = 16 << 20  # bytes of a file of users
ROUNDS = 10  # 2^10 of bcrypt
FIRST_USER = "docker"


class Htpasswd:
    """Checks name and password."""

    def __init__(self, realm: str, path: str) -> None:
        self._challenge = f'Basic realm="{realm}"'
        self._path = Path(path)
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._users: dict[str, bytes] = {}
        self._passwords = Passwords(ROUNDS)
        if not self._path.exists():
            self._create()
        self._read()

    def _create(self) -> None:
        password = secrets.token_urlsafe(24)
        entry = bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(f"{FIRST_USER}:{entry}\n")
        log.warning(
            "%s did not exist and has been made, with the user %s and the password %s",
            *(self._path, FIRST_USER, password),
        )

    def _look(self) -> tuple[int, int, int]:
        """Return what another file would not have. Raises OSError."""
        found = self._path.stat()
        return (found.st_mtime_ns, found.st_size, found.st_ino)

    def _read(self) -> None:
        """Read the file if it has changed; keep what we know if it cannot be read."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            if stamp[1] > LIMIT:
                raise InvalidArgument("it is too large")
            users = parse(self._path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, InvalidArgument) as error:
            if self._stamp is None:
                raise InvalidArgument(f"{self._path}: {error}") from error
            log.error("%s is not read anew: %s", self._path, error)
            return
        self._users, self._stamp = users, stamp
        self._passwords.entries = sorted(users.values())

    def blocks(self, request: Request) -> bool:
        """Only bcrypt takes long: who was right before does not wait behind those who guess."""
        given = credentials(request.headers.get("authorization", ""))
        if given is None:
            return False
        try:
            is_changed = self._look() != self._stamp
        except OSError:
            return True
        entry = None if is_changed else self._users.get(given[0])
        return entry is None or not self._passwords.knows(*given, entry)

    def authorize(self, request: Request, wanted: Sequence[Scope], needed: Scope | None) -> Grant:
        given = credentials(request.headers.get("authorization", ""))
        if given and self._is_right(*given):
            return Everything(given[0])
        if given:
            log.warning("user %r gave a wrong password", given[0][:64])
        raise RegistryError("UNAUTHORIZED", headers={"WWW-Authenticate": self._challenge})

    def _is_right(self, name: str, password: str) -> bool:
        with self._lock:
            self._read()
            entry = self._users.get(name)
        return self._passwords.match(name, password, entry)


def parse(text: str) -> dict[str, bytes]:
    """Return the users of an htpasswd file; entries that are not bcrypt match nobody."""
    users: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, colon, entry = line.partition(":")
        if not colon or not name:
            raise InvalidArgument(f"line {number} is no user")
        if entry.startswith(("$2a$", "$2b$", "$2y$")):
            users[name] = entry.encode()
        else:
            log.warning("user %s cannot log in: the password is not stored with bcrypt", name)
    return users
