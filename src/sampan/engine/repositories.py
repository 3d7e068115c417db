"""Files of git repositories, without a working tree: git fetches, and packs what a commit has.

No hook, no filter and no configuration of this machine is used, and no name in a repository becomes
a file here.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from sampan.engine.blocking import blocking
from sampan.engine.images.feeding import through_pipe
from sampan.errors import InvalidArgument, NotFound, Unsupported, Upstream
from sampan.spec.build import Repository

T = TypeVar("T")
_READ: Final = 256 << 10
_SENTENCE: Final = 2000  # letters of what git says
# Files are taken as they are, whatever .gitattributes of the repository says.
_ATTRIBUTES: Final = "* -export-ignore -export-subst -text -ident -filter\n"


async def archive_of(repository: Repository, read: Callable[[int], T]) -> T:
    """Return what `read` makes of the archive of a commit. Raises Upstream, NotFound."""
    with tempfile.TemporaryDirectory(prefix="sampan-git-") as folder:
        git = _Git(Path(folder))
        await git.run("init", "-q", "--bare", ".")
        await blocking(_write, git.folder / "info/attributes", _ATTRIBUTES)
        commit = await git.fetch(repository)
        if not commit.startswith(repository.checksum):
            raise InvalidArgument(f"expected checksum to match {repository.checksum}, got {commit}")
        return await through_pipe(git.archive(commit, repository.folder), read)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "ascii")


class _Git:
    """The program git in a repository of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = {
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
                self._environment[name] = os.environ[name]

    async def fetch(self, repository: Repository) -> str:
        """Fetch a commit; return its id."""
        url, ref = repository.url, repository.ref or "HEAD"
        try:
            await self.run("fetch", "-q", "--depth=1", "--no-tags", "--", url, ref)
            return await self.run("rev-parse", "--verify", "FETCH_HEAD^{commit}")
        except Upstream as error:
            shallow = error
        # A commit that no reference names, or a server that cannot send a part.
        try:
            if not repository.ref:
                await self.run("fetch", "-q", "--no-tags", "--", url, ref)
                return await self.run("rev-parse", "--verify", "FETCH_HEAD^{commit}")
            await self.run("fetch", "-q", "--", url, "+refs/*:refs/remotes/origin/*")
        except Upstream:
            raise shallow from None
        plain = ref.removeprefix("refs/")
        for name in (ref, f"origin/{plain}", f"origin/heads/{ref}", f"origin/tags/{ref}"):
            with suppress(Upstream):
                return await self.run("rev-parse", "-q", "--verify", f"{name}^{{commit}}")
        raise NotFound(f"repository does not contain ref {ref}")

    async def run(self, *words: str) -> str:
        """Return what a command of git prints. Raises Upstream with what it complains of."""
        process = await self._start(*words)
        try:
            out, said = await process.communicate()
        except BaseException:
            await _end(process)
            raise
        if process.returncode:
            raise Upstream(f"git {words[0]}: {_sentence(said)}")
        return out.decode("ascii", "replace").strip()

    async def archive(self, commit: str, folder: str) -> AsyncIterator[bytes]:
        """Yield the archive of a commit, or of a folder in it."""
        process = await self._start("archive", "--format=tar", f"{commit}:{folder}")
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

    async def _start(self, *words: str) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                "git",
                *words,
                cwd=self.folder,
                env=self._environment,
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
    return "; ".join(lines)[:_SENTENCE] or "failed"
