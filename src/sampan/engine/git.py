"""The program git in a repository of its own, with nothing of this machine's configuration.

What a server has to be told of a user stands in no command line, which everybody on the machine can
read: git asks a helper for it, which has it from the environment, and that only git's own user
and root can read.

Source: git-credential(1), gitcredentials(7), git-config(1) (GIT_CONFIG_COUNT).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote_to_bytes

from sampan.errors import InvalidArgument, NotFound, Unsupported, Upstream
from sampan.http.urls import redacted, redacted_text
from sampan.spec.build import Repository

_READ: Final = 256 << 10
_SENTENCE: Final = 2000  # letters of what git says
_AUTHORITY: Final = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)@([^/?#@]*)(.*)", re.I | re.DOTALL)
# `printf` is the shell's own: nothing that it is given stands in a command line.
_HELPER: Final = (
    '!tell() { test "$1" = get || return 0; printf "username=%s\\n" "$SAMPAN_GIT_NAME";'
    ' test -z "${SAMPAN_GIT_PASSWORD+x}" || printf "password=%s\\n" "$SAMPAN_GIT_PASSWORD"; }; tell'
)


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a repository is, and as whom it is asked for."""

    url: str  # without a password
    environment: dict[bytes, bytes]  # what git needs besides

    @classmethod
    def of(cls, url: str) -> Self:
        """Return what an address means. Raises InvalidArgument for names and passwords."""
        if not (found := _AUTHORITY.fullmatch(url)):
            return cls(url, {})
        scheme, user, host, rest = found.groups()
        name, colon, password = user.partition(":")
        if scheme.lower() not in ("http", "https"):  # ssh(1) takes no password
            return cls(f"{scheme}://{name}@{host}{rest}", {})
        told = {b"SAMPAN_GIT_NAME": unquote_to_bytes(name)}
        if colon:
            told[b"SAMPAN_GIT_PASSWORD"] = unquote_to_bytes(password)
        if any(byte < 32 for value in told.values() for byte in value):
            raise InvalidArgument(f"invalid name or password of a repository: {redacted(url)!r}")
        # Where this server leads to is told neither.
        settings = {
            b"GIT_CONFIG_COUNT": b"1",
            b"GIT_CONFIG_KEY_0": os.fsencode(f"credential.{scheme}://{host}.helper"),
            b"GIT_CONFIG_VALUE_0": _HELPER.encode(),
        }
        return cls(f"{scheme}://{host}{rest}", told | settings)


class Git:
    """The program git in a repository of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "GIT_DIR": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
            "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
            "LC_ALL": "C",
        }
        for name in ("http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY"):
            if name in os.environ:
                environment[name] = os.environ[name]
        self._environment = {name.encode(): os.fsencode(it) for name, it in environment.items()}

    async def fetch(self, repository: Repository) -> str:
        """Fetch a commit; return its id."""
        remote, ref = Remote.of(repository.url), repository.ref or "HEAD"

        async def fetch(*words: str) -> None:
            await self.run("fetch", "-q", *words, more=remote.environment)

        try:
            await fetch("--depth=1", "--no-tags", "--", remote.url, ref)
            return await self.run("rev-parse", "--verify", "FETCH_HEAD^{commit}")
        except Upstream as error:
            shallow = error
        # A commit that no reference names, or a server that cannot send a part.
        try:
            if not repository.ref:
                await fetch("--no-tags", "--", remote.url, ref)
                return await self.run("rev-parse", "--verify", "FETCH_HEAD^{commit}")
            await fetch("--", remote.url, "+refs/*:refs/remotes/origin/*")
        except Upstream:
            raise shallow from None
        plain = ref.removeprefix("refs/")
        for name in (ref, f"origin/{plain}", f"origin/heads/{ref}", f"origin/tags/{ref}"):
            with suppress(Upstream):
                return await self.run("rev-parse", "-q", "--verify", f"{name}^{{commit}}")
        raise NotFound(f"repository does not contain ref {ref}")

    async def run(self, *words: str, more: Mapping[bytes, bytes] | None = None) -> str:
        """Return what a command of git prints. Raises Upstream with what it complains of."""
        process = await self._start(*words, more=more)
        try:
            out, said = await process.communicate()
        except BaseException:
            await _end(process)
            raise
        if process.returncode:
            raise Upstream(f"git {words[0]}: {_sentence(said)}")
        return out.decode("utf-8", "surrogateescape").strip()

    async def settle(self, repository: Repository, commit: str) -> None:
        """Make it what belongs to a working tree of a commit."""
        await self.run("update-ref", "--no-deref", "HEAD", commit)
        await self.run("read-tree", commit)
        for name, value in (
            ("core.bare", "false"),
            ("remote.origin.url", redacted(repository.url)),
            ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
        ):
            await self.run("config", name, value)

    async def archive(self, commit: str, folder: str, prefix: str = "") -> AsyncIterator[bytes]:
        """Yield the archive of a commit, or of a folder in it."""
        words = ("archive", "--format=tar", f"--prefix={prefix}", f"{commit}:{folder}")
        process = await self._start(*words)
        if process.stdout is None or process.stderr is None:
            raise Upstream("git has no output")
        try:
            while data := await process.stdout.read(_READ):
                yield data
            said = await process.stderr.read()
            if await process.wait():
                raise InvalidArgument(f"git archive: {_sentence(said)}")
        finally:
            await _end(process)

    async def _start(
        self, *words: str, more: Mapping[bytes, bytes] | None = None
    ) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                "git",
                *words,
                cwd=self.folder,
                env=self._environment | dict(more or {}),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError as error:
            raise Unsupported("the program git is not installed") from error


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _sentence(said: bytes) -> str:
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return redacted_text("; ".join(lines))[:_SENTENCE] or "failed"
