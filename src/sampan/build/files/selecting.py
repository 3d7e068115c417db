"""What COPY and ADD take from a tree: names, wildcards, exclusions, whole folders.

Source: docker documentation, Dockerfile reference, "COPY", "ADD"; Go path.Match (wildcards).
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.build.contexts.ignore import Ignore, Pattern
from sampan.build.files.tree import File, Spool, Tree, walk
from sampan.errors import NotFound

_WILD: Final = re.compile(r"[*?\[\\]")
_STARS: Final = re.compile(r"\*+")


@dataclass(frozen=True, slots=True)
class Chosen:
    """One thing to copy: a file under a name, or what is in a folder."""

    name: bytes  # relative to the destination; of folders what their contents begin with
    file: File
    spool: Spool
    contents: bool = False  # the contents of a folder, not the folder
    above: tuple[tuple[bytes, File], ...] = ()  # folders that --parents makes, with their names
    foreign: bool = False  # owners are those of where it comes from
    whole: bool = False  # exclusions mean the whole name, not what is below it

    def entries(self, ignore: Ignore | None) -> Iterator[tuple[bytes, File]]:
        """Yield what is copied, by names relative to the destination."""
        if not self.contents:
            if not (ignore and ignore.hides(os.fsdecode(self.name))):
                yield from self.above
                yield self.name, self.file
            return
        yield from self.above
        prefix = self.name + b"/" if self.name else b""
        start = prefix if self.whole else b""
        hidden: set[bytes] = set()
        for path, file in walk(self.file):
            if ignore and ignore.hides(os.fsdecode(start + path)):
                if file.is_folder:
                    hidden.add(path)
                continue
            if hidden and not file.is_folder:
                yield from _shown_again(self.file, prefix, path, hidden)
            yield prefix + path, file


def _shown_again(
    root: File, prefix: bytes, path: bytes, hidden: set[bytes]
) -> Iterator[tuple[bytes, File]]:
    """Yield the hidden folders on the way to something that an exception brings back."""
    file, above = root, b""
    for part in path.split(b"/")[:-1]:
        file = file.children[part]
        above += b"/" + part if above else part
        if above in hidden:
            hidden.remove(above)
            yield prefix + above, file


def is_wild(source: str) -> bool:
    """Tell whether a source is a pattern."""
    return _WILD.search(source) is not None


def matches(tree: Tree, source: str, *, deep: bool = False) -> list[tuple[bytes, File]]:
    """Return what a source means in a tree, with the paths by which it was found.

    With `deep`, `**` means any number of folders.
    """
    clean = posixpath.normpath("/" + source).lstrip("/")
    if not is_wild(clean):
        path = os.fsencode(clean)
        return [(path, tree.find(path))]
    found: list[tuple[bytes, File]] = [(b"", tree.root)]
    parts = clean.split("/")
    for number, part in enumerate(parts):
        if deep and part == "**":
            last = number == len(parts) - 1
            found = _unique(one for above in found for one in _all_below(above, files=last))
        else:
            found = _unique(one for above in found for one in _below(tree, above, part))
    return [(path, tree.find(path)) for path, _ in found]


def _unique(found: Iterable[tuple[bytes, File]]) -> list[tuple[bytes, File]]:
    return list(dict(found).items())


def _all_below(above: tuple[bytes, File], *, files: bool) -> Iterator[tuple[bytes, File]]:
    path, file = above
    if file.is_folder and not files:
        yield path, file
    for name, one in walk(file, path):
        if files or one.is_folder:
            yield name, one


def _below(tree: Tree, above: tuple[bytes, File], part: str) -> Iterator[tuple[bytes, File]]:
    path, file = above
    start = path + b"/" if path else b""
    if file.kind == b"2":
        try:
            file = tree.find(path)
        except NotFound:
            return
    if not is_wild(part):
        if (child := file.children.get(os.fsencode(part))) is not None:
            yield start + os.fsencode(part), child
        return
    pattern = Pattern(_STARS.sub("*", part))
    for name in sorted(file.children):
        if pattern.matches(os.fsdecode(name)):
            yield start + name, file.children[name]


def with_parents(tree: Tree, source: str, path: bytes, file: File) -> Chosen:
    """Return a match of `--parents`: it keeps its path, from `/./` on if that is in the source."""
    clean = source.lstrip("/")
    before, pivot, _ = clean.partition("/./")
    if clean.startswith("./"):
        before, pivot = "", "/./"
    skipped = len(posixpath.normpath(before).split("/")) if pivot and before else 0
    parts = path.split(b"/") if path else []
    above: list[tuple[bytes, File]] = []
    for end in range(skipped + 1, len(parts)):
        above.append((b"/".join(parts[skipped:end]), tree.find(b"/".join(parts[:end]))))
    name = b"/".join(parts[skipped:])
    if file.is_folder:
        if name:
            above.append((name, file))
        return Chosen(name, file, tree.spool, contents=True, above=tuple(above), whole=True)
    return Chosen(name, file, tree.spool, above=tuple(above))


def choose(tree: Tree, source: str, *, parents: bool) -> Sequence[Chosen]:
    """Return what a source means, nothing for a pattern that fits nothing.

    Raises NotFound for a name that is not there.
    """
    found = matches(tree, source, deep=parents)
    if parents:
        return [with_parents(tree, source, path, file) for path, file in found]
    return [
        Chosen(b"", file, tree.spool, contents=True)
        if file.is_folder
        else Chosen(path.rpartition(b"/")[2], file, tree.spool)
        for path, file in found
    ]
