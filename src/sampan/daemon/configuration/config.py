"""The daemon's merged configuration, as all its parts read it.

Read by the supervisor before anything else is imported, so it imports little.
"""

from __future__ import annotations

import os
from typing import Any

DEFAULT_SOCKET = "sampan.sock"


class Config:
    """The merged configuration; an option is read by its flag's name."""

    def __init__(
        self, values: dict[str, Any], flags: frozenset[str], in_file: frozenset[str]
    ) -> None:
        self._values = values
        self.flags = flags  # set on the command line
        self.given = flags | in_file

    def __getitem__(self, flag: str) -> Any:
        return self._values[flag]

    def changed(self, values: dict[str, Any]) -> Config:
        """Return a copy with other values."""
        return Config({**self._values, **values}, self.flags, self.given - self.flags)

    def set(self, flag: str, value: Any) -> None:
        """Change an option while the daemon runs."""
        self._values[flag] = value

    @property
    def wants_tls(self) -> bool:
        """TLS is used on TCP."""
        return bool(self["tls"] or "tlsverify" in self.given)

    @property
    def verifies_clients(self) -> bool:
        """Clients on TCP must show a certificate: unless --tlsverify=false says otherwise."""
        return self.wants_tls and ("tlsverify" not in self.given or bool(self["tlsverify"]))

    @property
    def hosts(self) -> list[str]:
        """Where to listen; never empty."""
        return list(self["host"]) or [f"unix://{os.path.join(self['exec-root'], DEFAULT_SOCKET)}"]
