"""From a checked configuration to a token service."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.errors import InvalidArgument, Unavailable
from sampan.registry.configuration.document import Checked
from sampan.registry.configuration.nodes import seconds

if TYPE_CHECKING:  # a registry without a token service needs none of it, and starts without
    from sampan.registry.tokens.accounts import Accounts
    from sampan.registry.tokens.issuer import Issuer
    from sampan.registry.tokens.keys import KeyRing
    from sampan.registry.tokens.sessions import Sessions

ACCOUNTS, KEYS = "accounts.db", "keys"
SHORTEST = 60.0  # seconds: clients take every token to last a minute at least
NAME_ATTEMPTS, NAME_SECONDS = 5, 10.0
ADDRESS_ATTEMPTS, ADDRESS_SECONDS = 50, 2.0


def is_wanted(checked: Checked) -> bool:
    """Tell whether there is a token service."""
    return bool(checked.get("tokens"))


def directory(checked: Checked) -> Path:
    """Return the folder of a token service; raise InvalidArgument if there is none."""
    if not is_wanted(checked):
        raise InvalidArgument("the configuration has no section `tokens`")
    return Path(str(checked.get("tokens.directory")))


def path(checked: Checked) -> str:
    """Return where tokens are given."""
    return str(checked.get("tokens.path", "/auth/token"))


def lifetime(checked: Checked) -> float:
    """Return how long a token is valid, in seconds."""
    found = seconds(checked.get("tokens.lifetime", "5m"))
    if found < SHORTEST:
        raise InvalidArgument("tokens.lifetime: must be at least a minute: clients count on that")
    return found


def key_ring(checked: Checked) -> KeyRing:
    """Open the keys, which are made if there are none."""
    from sampan.registry.tokens.keys import KeyRing

    return KeyRing(
        directory(checked) / KEYS,
        str(checked.get("tokens.keys.algorithm", "ES256")),
        lifetime(checked),
        seconds(checked.get("tokens.keys.interval", "720h")),
    )


def sessions(checked: Checked, accounts: Accounts) -> Sessions:
    """Return the refresh tokens."""
    from sampan.registry.tokens.sessions import Sessions

    unused = seconds(checked.get("tokens.refresh.lifetime", "2160h"))
    return Sessions(accounts, unused, bool(checked.get("tokens.refresh.rotate", False)))


@contextmanager
def readable(checked: Checked) -> Iterator[None]:
    """Raise Unavailable for a directory that cannot be used."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Unavailable(f"tokens.directory: {directory(checked)}: {reason}") from error


@contextmanager
def issuer(checked: Checked) -> Iterator[Issuer]:
    """Open a token service."""
    from sampan.registry.tokens.accounts import Accounts
    from sampan.registry.tokens.issuer import Issuer, Terms
    from sampan.registry.tokens.throttle import Attempts, Throttle

    with ExitStack() as stack:
        with readable(checked):
            accounts = stack.enter_context(Accounts(directory(checked) / ACCOUNTS))
            ring = key_ring(checked)
        terms = Terms(
            str(checked.get("tokens.issuer")),
            [str(name) for name in checked.get("tokens.services")],
            lifetime(checked),
            bool(checked.get("tokens.keys.certificates", True)),
        )
        throttle = Throttle(
            Attempts(checked.get("tokens.attempts.name", NAME_ATTEMPTS), NAME_SECONDS),
            Attempts(checked.get("tokens.attempts.address", ADDRESS_ATTEMPTS), ADDRESS_SECONDS),
        )
        yield Issuer(terms, accounts, ring, sessions(checked, accounts), throttle)
