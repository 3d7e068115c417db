"""Health checks: of the storage, of files, addresses and ports. While one fails, nobody is served.

Source: distribution health/checks/checks.go and registry/handlers/app.go, RegisterHealthChecks.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from sampan.errors import InvalidArgument
from sampan.http.urls import Url, redacted
from sampan.registry.observability.asking import status_of

log = logging.getLogger(__name__)
BY_HAND = (
    "manual_http_status"  # what POST /debug/health/down makes fail, as docker-registry names it
)
PATIENCE = 30.0  # seconds for a check without a time of its own


class Unhealthy(Exception):
    """A check that failed; the message is the reason."""


@dataclass
class Check:
    """One check: `probe` blocks, and raises Unhealthy or OSError."""

    name: str  # which clients are told, while it fails
    probe: Callable[[], None]
    interval: float = 10.0
    threshold: int = 1  # failures in a row from which on it counts
    failures: int = field(default=0, init=False)
    reason: str = field(default="", init=False)

    def count(self, reason: str) -> None:
        """Count one result; an empty reason is a success."""
        was = self.fails
        self.failures = self.failures + 1 if reason else 0
        self.reason = reason
        if self.fails and not was:
            log.error("health check %s fails: %s", self.name, reason)
        elif was and not self.fails:
            log.info("health check %s passes again", self.name)

    @property
    def fails(self) -> bool:
        """It failed as often as it may, or more."""
        return self.failures >= max(self.threshold, 1)


class Health:
    """All checks, and the switch for administrators."""

    def __init__(
        self, checks: Sequence[Check] = (), notes: Callable[[], Mapping[str, str]] = dict
    ) -> None:
        """`notes` tells what fails without harm to clients, who are served."""
        self.checks = list(checks)
        self.notes = notes
        self.down_by_hand = False

    def sick(self) -> Mapping[str, str]:
        """Return the checks that fail, with their reasons."""
        found = {check.name: check.reason for check in self.checks if check.fails}
        if self.down_by_hand:
            found[BY_HAND] = "Manual Check"
        return found

    async def watch(self, threads: Executor) -> None:
        """Run all checks, each in its interval, for ever."""
        async with asyncio.TaskGroup() as group:
            for check in self.checks:
                group.create_task(self._watch(check, threads))

    async def _watch(self, check: Check, threads: Executor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(check.interval)
            check.count(await loop.run_in_executor(threads, outcome, check))


def outcome(check: Check) -> str:
    """Run a check once and return why it fails; empty if it passes."""
    try:
        check.probe()
    except (Unhealthy, OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    return ""


def file_is_absent(path: str) -> None:
    """Fail while a file exists: that is how an administrator takes a registry out of service."""
    if Path(path).exists():
        raise Unhealthy("file exists")


def connects(address: str, timeout: float) -> None:
    """Fail if nobody listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout or PATIENCE):
            pass
    except (OSError, ValueError) as error:
        raise Unhealthy(f"connection to {address} failed: {error}") from error


def answers(uri: str, status: int, headers: Mapping[str, Sequence[str]], timeout: float) -> None:
    """Fail if HEAD is answered with another status."""
    try:
        found = status_of("HEAD", Url.parse(uri), headers, timeout or PATIENCE)
    except (OSError, http.client.HTTPException, InvalidArgument, ValueError) as error:
        raise Unhealthy(f"error while checking: {redacted(uri)}: {error}") from error
    if found != status:
        raise Unhealthy(f"downstream service returned unexpected status: {found}")
