"""Files of git repositories, without a working tree: git fetches, and packs what a commit has.

No hook, no filter and no configuration of this machine is used, and no name in a repository becomes
a file here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, Generic, TypeVar

from sampan.engine.blocking import blocking
from sampan.engine.git import Git
from sampan.engine.images.feeding import from_pipe, through_pipe
from sampan.errors import InvalidArgument, Upstream
from sampan.http.urls import redacted
from sampan.spec.build import Repository

T = TypeVar("T")
# Files are taken as they are, whatever .gitattributes of the repository says.
_PREFIX: Final = "sampan-git-"
_YOUNG: Final = 3600.0  # seconds
_MODULES: Final = 128  # repositories of one address
_DEPTH: Final = 10  # of submodules in submodules
_OURS: Final = ("hooks", "branches", "info", "description", "FETCH_HEAD")  # nobody's `.git` has it
_ATTRIBUTES: Final = "* -export-ignore -export-subst -text -ident -filter\n"


async def archive_of(repository: Repository, read: Callable[[int], T]) -> T:
    """Return what `read` makes of the archive of a commit. Raises Upstream, NotFound.

    It is called again for the archive of each submodule, and of the `.git` that was asked for, with
    names that belong into the first.
    """
    await blocking(sweep)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, _in_use(folder):
        return await _Cloning(Path(folder), read).add(repository, "", _DEPTH)


@contextmanager
def _in_use(folder: str) -> Iterator[None]:
    """Let no sweep take a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def sweep() -> None:
    """Remove what engines have left that were killed while they fetched a repository."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is somebody else's, or in use, or gone
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                found = os.fstat(descriptor)
                # One that is young may not have its lock yet.
                if found.st_uid == os.geteuid() and found.st_mtime < time.time() - _YOUNG:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
            finally:
                os.close(descriptor)


class _Cloning(Generic[T]):
    """A repository with its submodules, on the way to be read."""

    def __init__(self, folder: Path, read: Callable[[int], T]) -> None:
        self._folder, self._read = folder, read
        self._count = 0

    async def add(self, repository: Repository, prefix: str, depth: int) -> T:
        """Read the archive of a commit below `prefix`, and those of its submodules."""
        self._count += 1
        if self._count > _MODULES or not depth:
            raise InvalidArgument("the repository has too many submodules")
        git = Git(self._folder / str(self._count))
        await blocking(git.folder.mkdir)
        await git.run("init", "-q", "--bare", ".")
        await blocking(_write, git.folder / "info/attributes", _ATTRIBUTES)
        commit = await git.fetch(repository)
        if not commit.startswith(repository.checksum):
            raise InvalidArgument(f"expected checksum to match {repository.checksum}, got {commit}")
        result = await through_pipe(git.archive(commit, repository.folder, prefix), self._read)
        if repository.submodules:
            for path, module in await submodules(git, repository, commit):
                await self.add(module, f"{prefix}{path}/", depth - 1)
        if repository.keep_git and not repository.folder:
            await git.settle(repository, commit)
            async with from_pipe(partial(_write_git, git.folder)) as pieces:
                await through_pipe(pieces, self._read)
        return result


async def submodules(git: Git, repository: Repository, commit: str) -> list[tuple[str, Repository]]:
    """Return the submodules of a commit, below the folder that is asked for, with their places."""
    try:
        said = await git.run(
            *("config", "--blob", f"{commit}:.gitmodules", "-z", "--get-regexp"),
            r"^submodule\..*\.(path|url)$",
        )
    except Upstream:
        return []  # no such file, or nothing in it
    known: dict[str, dict[str, str]] = {}
    for entry in said.split("\0"):
        key, _, value = entry.partition("\n")
        name, _, field = key.removeprefix("submodule.").rpartition(".")
        known.setdefault(name, {})[field] = value
    found = []
    start = f"{repository.folder}/" if repository.folder else ""
    for module in known.values():
        path, url = module.get("path", ""), module.get("url", "")
        if not (path.startswith(start) and url):
            continue
        row = await git.run("--literal-pathspecs", "ls-tree", "-z", commit, "--", path)
        fields, _, place = row.rstrip("\0").partition("\t")
        if fields.startswith("160000 commit ") and place == path:  # else it is only talked about
            wanted = Repository(url=module_url(repository.url, url), ref=fields.split(" ")[2])
            found.append((path.removeprefix(start), wanted))
    return found


def module_url(parent: str, url: str) -> str:
    """Return the address of a submodule, which may be relative to its parent's; InvalidArgument."""
    if url.startswith(("./", "../")):
        base = parent.rstrip("/")
        for part in url.split("/"):
            if part == "..":
                above, slash, _ = base.rpartition("/")
                base, colon, _ = (above, "", "") if slash else base.rpartition(":")
                if not base or base.endswith(("/", ":")):
                    raise InvalidArgument(
                        f"invalid submodule: {redacted(url)!r} leads out of {redacted(parent)!r}"
                    )
                base += colon
            elif part != ".":
                base += part if base.endswith(":") else f"/{part}"
        url = base
    if url.startswith("-") or any(ord(letter) < 33 for letter in url):
        raise InvalidArgument(f"invalid submodule: {redacted(url)!r}")
    return url


def _write_git(folder: Path, into: int) -> None:
    """Write a repository to a pipe, as the `.git` of its working tree."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if entry.name.removeprefix(".git/") in _OURS:
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with (
        open(into, "wb", closefd=False) as pipe,
        tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        archive.add(folder, ".git", filter=plain)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "ascii")
