"""Seccomp filters of running containers, kept for the processes that are started in them later."""

from __future__ import annotations

import hashlib

import msgspec

from sampan.runtime.spawning.tasks import StateFiles
from sampan.spec.runtime import LinuxSeccomp


class Filters:
    """Filters by their digest: containers share them."""

    def __init__(self, state: StateFiles) -> None:
        self._state = state
        self._filters: dict[str, LinuxSeccomp] = {}

    def keep(self, seccomp: LinuxSeccomp) -> str:
        """Keep a filter; return its digest."""
        document = msgspec.json.encode(seccomp)
        digest = hashlib.sha256(document).hexdigest()
        if digest not in self._filters:
            self._state.save_seccomp(digest, document)
            self._filters[digest] = seccomp
        return digest

    def get(self, digest: str) -> LinuxSeccomp | None:
        """Return a filter that was kept; None for a container without one."""
        if not digest:
            return None
        if digest not in self._filters:
            document = self._state.load_seccomp(digest)
            self._filters[digest] = msgspec.json.decode(document, type=LinuxSeccomp)
        return self._filters[digest]
