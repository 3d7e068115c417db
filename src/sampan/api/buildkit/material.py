"""What a build is made of: its Dockerfile and its context, wherever those are.

A context is a folder of the client, an archive that it sends, a repository, or a web page.

Source: buildkit frontend/dockerui/context.go, config.go (ReadEntrypoint, MainContext);
session/upload (archives that clients have on their standard input).
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sampan.api.buildkit.filesync import Folder, fetch
from sampan.api.buildkit.options import Wish
from sampan.api.buildkit.progress import Progress, Vertex
from sampan.api.buildkit.sessions import Session
from sampan.api.buildkit.subrequests import LINT
from sampan.build.builder import Builder
from sampan.build.built import Recipe
from sampan.build.contexts.git import is_repository, parse_repository
from sampan.build.contexts.ignore import read_ignore
from sampan.build.contexts.kept import Transfer
from sampan.build.contexts.main_context import MainContext
from sampan.build.files.tree import Spool, Tree
from sampan.build.policing import Policy, Source, check, commit
from sampan.errors import InvalidArgument, NotFound
from sampan.http.urls import redacted
from sampan.storage.archives.tar_fields import REGULAR

_MAX_TEXT: Final = 16 << 20
_DOCKERFILE: Final = "Dockerfile"
_PAGE: Final = "context"  # what a page that is no archive is called
SENT: Final = "http://buildkit-session/"
_IGNORE: Final = ".dockerignore"
_LOCAL: Final = "local://"


@dataclass(slots=True)
class Material:
    """Gathers it; `transfer` gets what is in a folder that is a context, `spool` all else."""

    builder: Builder
    progress: Progress
    session: Session
    wish: Wish
    transfer: Transfer
    spool: Spool
    policy: Policy | None = None  # of the client
    _ignore: bytes | None = field(default=None, init=False)  # of the Dockerfile itself
    _name: str = field(default="", init=False)  # of the Dockerfile
    _remote: Tree | None = field(default=None, init=False)

    async def recipe(self) -> tuple[Vertex, Recipe]:
        """Return the Dockerfile, and who told of it."""
        self._name = posixpath.normpath("/" + self.wish.options.dockerfile).lstrip("/")
        if self.wish.remote:
            self._remote = await self._fetched(self.wish.remote)
        name = self._name
        told = f"[internal] load build definition from {posixpath.basename(name)}"
        with self.progress.during(told) as definition:
            tree = self._remote
            if tree is None or self.wish.dockerfile_is_local:
                tree = Tree(self.spool)
                wanted = [name, f"{name}{_IGNORE}", _lower(name)]
                folder = Folder(self.wish.dockerfile_name, follow=list(dict.fromkeys(wanted)))
                await self._check(f"{_LOCAL}{folder.name}")
                await fetch(self.session, folder, tree)
            content = _text(tree, name)
            if content is None:
                content = _text(tree, _lower(name))
            if content is None:
                raise InvalidArgument(
                    f"failed to read dockerfile: open {name}: no such file or directory"
                )
            self._ignore = _text(tree, f"{name}{_IGNORE}")
        if self._remote is None and self._ignore is None and self.wish.question in ("", LINT):
            with self.progress.during(f"[internal] load {_IGNORE}"):
                context = self.wish.context_name
                await self._check(f"{_LOCAL}{context}")
                self._ignore = await _ignore_of(self.session, context, self.spool)
        ignored = read_ignore(self._ignore or b"")
        return definition, Recipe(content, posixpath.basename(name), ignored)

    async def _check(self, identifier: str) -> None:
        await check(self.policy, Source(identifier))

    def context(self) -> MainContext:
        """Return the context, which comes when it is needed; `recipe` comes first."""
        if self._remote is not None:
            return MainContext(self._remote)
        return MainContext(Tree(self.transfer.spool), self._fetch, self.spool)

    async def _fetch(self, tree: Tree) -> None:
        name = self.wish.context_name
        with self.progress.during("[internal] load build context") as vertex:
            folder = Folder(name, exclude=read_ignore(self._ignore or b""))
            await self._check(f"{_LOCAL}{name}")
            await fetch(self.session, folder, tree, partial(_transferred, vertex), self.transfer)
        self.transfer.complete()

    async def _fetched(self, address: str) -> Tree:
        """Return a context that is no folder of the client."""
        tree = Tree(self.spool)
        if is_repository(address):
            with self.progress.during(f"[internal] load git source {redacted(address)}"):
                await check(self.policy, commit(parse_repository(address)))
                await self.builder.incoming.load(address, tree, _PAGE)
        else:
            with self.progress.during("[internal] load remote build context"):
                await self._check(address)
                if address.startswith(SENT):
                    chunks = self.session.upload(address.removeprefix(SENT))
                    is_archive = await self.builder.incoming.take(chunks, tree, _PAGE)
                else:
                    is_archive = await self.builder.incoming.load(address, tree, _PAGE)
                if not is_archive and not self.wish.dockerfile_is_local:
                    self._name = _PAGE
        if self.wish.context_folder:
            tree.root = _below(tree, self.wish.context_folder).root
        return tree


async def fetch_folder(session: Session, name: str, tree: Tree) -> None:
    """Put what a client's folder has, but what its `.dockerignore` means, into a tree."""
    ignore = await _ignore_of(session, name, tree.spool)
    await fetch(session, Folder(name, exclude=read_ignore(ignore)), tree)


async def _ignore_of(session: Session, name: str, spool: Spool) -> bytes:
    tree = Tree(spool)
    await fetch(session, Folder(name, follow=[_IGNORE]), tree)
    return _text(tree, _IGNORE) or b""


def _below(tree: Tree, path: str) -> Tree:
    try:
        file = tree.find(os.fsencode(path))
    except NotFound:
        file = None
    if file is None or not file.is_folder:
        raise InvalidArgument(f"the build context has no folder {path}")
    below = Tree(tree.spool)
    below.root = file
    return below


def _lower(name: str) -> str:
    """Return what else a Dockerfile may be called."""
    above, base = posixpath.split(name)
    return posixpath.join(above, base.lower()) if base == _DOCKERFILE else name


def _text(tree: Tree, name: str) -> bytes | None:
    try:
        file = tree.find(os.fsencode(name))
    except NotFound:
        return None
    if file.kind != REGULAR:
        raise InvalidArgument(f"{name} is not a regular file")
    return tree.spool.read(file, _MAX_TEXT)


def _transferred(vertex: Vertex, received: int, done: bool) -> None:
    vertex.transfer("transferring context:", received, 0, done=done)
