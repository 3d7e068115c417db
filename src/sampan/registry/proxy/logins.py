"""How we log in at an upstream: a name and a password, or what a credential helper says.

Source: distribution registry/proxy/proxyauth.go at v3.1.1; docker-credential-helpers.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec

from sampan.distribution.credentials import ANONYMOUS, Credentials
from sampan.errors import Unavailable

HELPER_SECONDS = 30.0
_ANSWER_BYTES = 1 << 20
_TOKEN = "<token>"  # noqa: S105 the name by which helpers say that the secret is a token


class Login:
    """What an upstream is shown: nothing, or what stands in the configuration."""

    def __init__(self, username: str = "", password: str = "") -> None:
        self._credentials = Credentials(username, password) if username else ANONYMOUS

    @property
    def is_anonymous(self) -> bool:
        return self._credentials.is_anonymous

    async def credentials(self) -> Credentials:
        """Return what to show now. Raises Unavailable if it cannot be found out."""
        return self._credentials


class _Told(msgspec.Struct, rename="pascal"):
    username: str = ""
    secret: str = ""


@dataclass(frozen=True)
class _Kept:
    credentials: Credentials
    since: float


class HelperLogin(Login):
    """Asks a program `COMMAND get`, as docker does with its credential helpers."""

    is_anonymous = False

    def __init__(self, command: str, server: str, lifetime: float | None) -> None:
        """`lifetime`: seconds for which an answer holds; 0: none is kept, None: for ever."""
        super().__init__()
        self._command = command
        self._server = server
        self._lifetime = lifetime
        self._kept: _Kept | None = None
        self._lock = asyncio.Lock()

    async def credentials(self) -> Credentials:
        async with self._lock:
            kept = self._kept
            if kept is None or self._is_over(kept):
                kept = self._kept = _Kept(await self._ask(), time.monotonic())
            return kept.credentials

    def _is_over(self, kept: _Kept) -> bool:
        return self._lifetime is not None and time.monotonic() - kept.since >= self._lifetime

    async def _ask(self) -> Credentials:
        try:
            process = await asyncio.create_subprocess_exec(
                *(self._command, "get"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise Unavailable(f"{self._command}: {error.strerror or error}") from None
        try:
            async with asyncio.timeout(HELPER_SECONDS):
                out, _ = await process.communicate(self._server.encode())
        except TimeoutError:
            raise Unavailable(f"{self._command} does not answer") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode or len(out) > _ANSWER_BYTES:
            raise Unavailable(f"{self._command} ended with status {process.returncode}")
        try:
            told = msgspec.json.decode(out, type=_Told)
        except (ValueError, RecursionError):
            raise Unavailable(f"{self._command} did not answer as credential helpers do") from None
        if told.username == _TOKEN:
            return Credentials(identity_token=told.secret)
        return Credentials(told.username, told.secret)
