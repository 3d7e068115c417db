"""`--build-context`: further contexts of a build, and those of them that we send ourselves.

Source: docker/buildx build/opt.go (kinds and messages), util/ocilayout/parse.go, buildkit
client/ociindex (which image of a layout is meant).
"""

from __future__ import annotations

import json
import os
import re
from functools import partial

from sampan.cli.invocation import Exit
from sampan.errors import InvalidArgument, NotFound, SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

_ADDRESSES = ("docker-image://", "http://", "https://", "git://", "ssh://", "git@")
_LAYOUT = "oci-layout://"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_NAMES = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
_INDEX = 4 << 20  # bytes
_READ = 256 << 10


class Layout:
    """The blobs of an OCI layout."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def read(self, digest: str, offset: int) -> Iterator[bytes]:
        """Yield a blob from a place on; NotFound, InvalidArgument."""
        if not _DIGEST.fullmatch(digest):
            raise InvalidArgument(f"{digest} is no digest of a blob")
        path = os.path.join(self._folder, "blobs", *digest.split(":"))
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                while piece := file.read(_READ):
                    yield piece
        except FileNotFoundError:
            raise NotFound(f"content {digest}: not found") from None


class Further:
    """What `--build-context` says: addresses for the daemon, and what it fetches from us."""

    def __init__(self, given: Sequence[str]) -> None:
        """Read the flags; raises Exit."""
        self.addresses: dict[str, str] = {}
        self.folders: dict[str, Callable[[], Iterator[bytes]]] = {}
        self.layouts: dict[str, Layout] = {}
        for text in given:
            name, _, what = text.partition("=")
            if not (name and what):
                raise Exit(1, f"invalid context value: {text}, expected key=value")
            self.addresses[name] = self._address(name, what)

    def _address(self, name: str, what: str) -> str:
        if what.startswith(_LAYOUT):
            return self._layout(what)
        if what.startswith(_ADDRESSES) and not os.path.isdir(what):
            return what
        try:
            os.stat(what)
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise Exit(1, f"failed to get build context {name}: stat {what}: {reason}") from None
        if not os.path.isdir(what):
            raise Exit(1, f"failed to get build context path {what}: not a directory")
        number = str(len(self.folders))
        self.folders[number] = partial(_archive, what)
        return f"archive:{number}"

    def _layout(self, what: str) -> str:
        path, tag, digest = _parsed(what)
        digest = digest or _resolved(what, path, tag)
        number = str(len(self.layouts))
        self.layouts[number] = Layout(path)
        return f"{_LAYOUT}{number}@{digest}"


def _archive(path: str) -> Iterator[bytes]:
    from sampan.cli.building.context import folder_archive

    try:
        yield from folder_archive(path)
    except Exit as error:
        raise InvalidArgument(str(error)) from error


def _parsed(what: str) -> tuple[str, str, str]:
    """Return path, tag and digest of `oci-layout://PATH[:TAG][@DIGEST]`."""
    path = what.removeprefix(_LAYOUT)
    above, at, digest = path.rpartition("@")
    if at and _DIGEST.fullmatch(digest):
        path = above
    else:
        digest = ""
    above, colon, tag = path.rpartition(":")
    if colon and _TAG.fullmatch(tag):
        return above, tag, digest
    return path, "" if digest else "latest", digest


def _resolved(what: str, path: str, tag: str) -> str:
    """Return the digest of what is called `tag`, or of the only image that there is."""
    try:
        with open(os.path.join(path, "index.json"), "rb") as file:
            found = _manifests(file.read(_INDEX))
    except (OSError, SampanError) as error:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
        raise Exit(1, f'oci-layout reference "{what}" could not be resolved: {reason}') from None
    named = [one for one in found if tag in _names(one)] or (found if len(found) == 1 else [])
    digest = str(named[0].get("digest")) if named else ""
    if not _DIGEST.fullmatch(digest):
        raise Exit(
            1, f'oci-layout reference "{what}" could not be resolved: failed to resolve digest'
        )
    return digest


def _manifests(raw: bytes) -> list[dict[str, Any]]:
    try:
        document = json.loads(raw)
        found = document.get("manifests") if isinstance(document, dict) else None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"index.json: {error}") from None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _names(descriptor: dict[str, Any]) -> list[object]:
    """Return what an image of a layout is called."""
    annotations = descriptor.get("annotations")
    return [annotations.get(key) for key in _NAMES] if isinstance(annotations, dict) else []
