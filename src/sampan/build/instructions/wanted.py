"""COPY and ADD with all their words expanded.

Source: docker documentation, Dockerfile reference, "ADD", "COPY"; moby
daemon/builder/dockerfile/copy.go (rules and messages).
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from sampan.build.caching.cache import key_of
from sampan.build.dockerfiles.shell import Shell
from sampan.build.files.selecting import Chosen
from sampan.build.instructions import model
from sampan.build.instructions.metadata import Scope
from sampan.errors import InvalidArgument
from sampan.http.urls import redacted


@dataclass(frozen=True, slots=True)
class Wanted:
    """A copy with all its words expanded."""

    name: str  # COPY or ADD
    sources: Sequence[str]
    documents: Sequence[tuple[str, str]]  # names and contents
    destination: str  # absolute; with a slash at its end it is a folder
    chown: str
    chmod: str
    exclude: Sequence[str]
    instruction: model.Copy
    checksum: str = ""
    written: str = ""  # the destination as it was written
    origin: str = ""  # chain id or name of the state that is copied from; "" is the context
    chosen: list[Chosen] = field(default_factory=list, compare=False)

    @property
    def shown(self) -> list[str]:
        """The sources as others may see them, without passwords."""
        return [redacted(source) for source in self.sources]

    @property
    def text(self) -> str:
        """What the classic builder's history says."""
        return f"{self.name} {' '.join([*self.shown, *(n for n, _ in self.documents)])}"


def expand(scope: Scope, it: model.Copy) -> Wanted:
    """Return a copy with its words expanded."""
    raw = Shell(scope.shell.escape, raw_quotes=True, raw_escapes=True)
    documents = [
        (one.name, raw.word(one.content, scope.variables) if one.expand else one.content)
        for one in it.heredocs
    ]
    name = "ADD" if it.add else "COPY"
    destination = scope.word(it.destination)
    is_folder = destination.endswith("/") or posixpath.basename(destination) in (".", "..")
    whole = posixpath.join("/", scope.state.run.working_dir, destination)
    clean = "/" + posixpath.normpath(whole).lstrip("/")
    if is_folder and clean != "/":
        clean += "/"
    sources = [scope.word(source) for source in it.sources]
    if len(sources) + len(documents) > 1 and not clean.endswith("/"):
        raise InvalidArgument(
            f"When using {name} with more than one source file, the destination must be a"
            " directory and end with a /"
        )
    return Wanted(
        name=name,
        sources=sources,
        documents=documents,
        destination=clean,
        chown=scope.word(it.chown),
        chmod=scope.word(it.chmod),
        exclude=[scope.word(pattern) for pattern in it.exclude],
        instruction=it,
        checksum=scope.word(it.checksum),
        written=destination,
    )


def key_of_words(chain: str | None, wanted: Wanted) -> str:
    """Return a key that needs no file: of a copy from a state whose layers are known."""
    it = wanted.instruction
    lists = [wanted.sources, wanted.exclude, wanted.documents]
    return key_of(
        "words of a copy",
        *(chain, wanted.origin, wanted.destination, wanted.chown, wanted.chmod),
        *(json.dumps(lists), str(it.parents), *(["link"] if it.link else [])),
    )
