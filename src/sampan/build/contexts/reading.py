"""The build context: the archive that a client sends, as a tree that is nowhere unpacked.

Source: moby daemon/builder/remotecontext/detect.go (which files are not in it).
"""

from __future__ import annotations

import os
from typing import Final

from sampan.build.contexts.ignore import Ignore, read_ignore
from sampan.build.files.tree import File, Tree
from sampan.errors import InvalidArgument, NotFound
from sampan.storage.archives.compression import kind_of, plain_chunks, reader_of
from sampan.storage.archives.tar_fields import REGULAR

_MAX_TEXT: Final = 16 << 20
_HEADER: Final = 512  # bytes of the first header of a tar
_USTAR: Final = 257  # where it says what it is


def read_context(tree: Tree, fd: int) -> None:
    """Read an archive (plain, gzip, bzip2, xz, zstd) into a tree, to its end."""
    with tree.spool.lock:
        tree.read(plain_chunks(reader_of(fd)))


def write_page(tree: Tree, path: bytes, fd: int) -> None:
    """Put what a web page gives into a tree, as a file."""
    file = File(REGULAR, 0o600)
    with tree.spool.lock:
        file.at, file.stored, file.digest = tree.spool.add(iter(lambda: os.read(fd, 1 << 18), b""))
        tree.spool.flush()
    file.size = file.stored
    tree.graft(path, file)


def read_page(tree: Tree, fd: int, dockerfile: str) -> bool:
    """Read what a web page gives: an archive, or else the text of a Dockerfile; tell whether."""
    start = b""
    while len(start) < _HEADER and (piece := os.read(fd, _HEADER - len(start))):
        start += piece
    if kind_of(start) or start[_USTAR : _USTAR + 5] == b"ustar":
        rest = [start]

        def read(size: int) -> bytes:
            return rest.pop() if rest else os.read(fd, size)

        with tree.spool.lock:
            tree.read(plain_chunks(read))
        return True
    content = start
    while piece := os.read(fd, 1 << 16):
        content += piece
        if len(content) > _MAX_TEXT:
            raise InvalidArgument("the Dockerfile is too large")
    tree.write(os.fsencode(dockerfile), content)
    return False


def take_dockerfile(tree: Tree, name: str) -> tuple[bytes, str, list[str]]:
    """Return the Dockerfile of a context, its name, and what its ignore file means.

    Ignored files are taken out.

    Like Docker's, it is not in the context itself if `.dockerignore` means it.
    """
    name = name or "Dockerfile"
    try:
        path, file = _dockerfile(tree, name)
    except NotFound as error:
        raise InvalidArgument(f"Cannot locate specified Dockerfile: {name}") from error
    if file.kind != REGULAR:
        raise InvalidArgument(f"Cannot locate specified Dockerfile: {name} is no file")
    content = tree.spool.read(file, _MAX_TEXT)
    ignored = _patterns(tree, f"{path}.dockerignore") or _patterns(tree, ".dockerignore")
    _hide(tree, [".dockerignore", path])
    return content, os.path.basename(path), ignored or []


def _dockerfile(tree: Tree, name: str) -> tuple[str, File]:
    clean = os.path.normpath("/" + name).lstrip("/")
    try:
        return clean, tree.find(os.fsencode(clean))
    except NotFound:
        if name != "Dockerfile":
            raise
        return "dockerfile", tree.find(b"dockerfile")  # moby: lower case is taken, too


def _patterns(tree: Tree, name: str) -> list[str] | None:
    """Return what an ignore file says, None if there is none."""
    try:
        file = tree.find(os.fsencode(name))
    except NotFound:
        return None
    return read_ignore(tree.spool.read(file, _MAX_TEXT)) if file.kind == REGULAR else None


def _hide(tree: Tree, names: list[str]) -> None:
    """Take files away that the context's own `.dockerignore` means."""
    ignore = Ignore(_patterns(tree, ".dockerignore") or [])
    for name in names:
        if ignore.hides(name):
            tree.remove(os.fsencode(name))


def hide_ignored(tree: Tree, dockerfile: str) -> None:
    """Take everything away that `.dockerignore` means: of contexts that no client has cleaned."""
    ignore = Ignore(_patterns(tree, ".dockerignore") or [])
    keep = {dockerfile, ".dockerignore"}
    waiting: list[tuple[str, File]] = [("", tree.root)]
    while waiting:
        above, folder = waiting.pop()
        for name, child in list(folder.children.items()):
            path = os.path.join(above, os.fsdecode(name))
            hidden = ignore.hides(path) and path not in keep
            if child.is_folder and not (hidden and ignore.skips(path)):
                waiting.append((path, child))
            elif hidden:
                del folder.children[name]
