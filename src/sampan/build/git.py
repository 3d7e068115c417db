"""Addresses of git repositories, as `docker build` and ADD take them: URL#REF:FOLDER.

Source: docker documentation, "Build context", "Git repositories"; buildkit util/gitutil.
"""

from __future__ import annotations

import posixpath
import re
from typing import Final

from sampan.errors import InvalidArgument
from sampan.spec.build import Repository

_SCHEMES: Final = ("git://", "ssh://")
_WEB: Final = re.compile(r"https?://[^#?]+\.git(?:[#?].*)?", re.DOTALL)
_SHORT: Final = re.compile(r"github\.com/[^#]+/[^#]+(?:#.*)?", re.DOTALL)
_SSH: Final = re.compile(r"[a-zA-Z0-9_.-]+@[a-zA-Z0-9_.-]+:[^#]+(?:#.*)?", re.DOTALL)
_REF: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_./+-]*")


def is_repository(address: str) -> bool:
    """Tell whether an address means a git repository."""
    if address.startswith(_SCHEMES):
        return True
    return any(form.fullmatch(address) for form in (_WEB, _SHORT, _SSH))


def parse_repository(address: str) -> Repository:
    """Return what an address means. Raises InvalidArgument for refs and folders that are none."""
    url, _, fragment = address.partition("#")
    ref, _, folder = fragment.partition(":")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    if url.startswith("-") or any(ord(letter) < 33 for letter in url):
        raise InvalidArgument(f"invalid repository: {url!r}")
    if ref and (not _REF.fullmatch(ref) or ".." in ref):
        raise InvalidArgument(f"invalid reference of a repository: {ref!r}")
    clean = posixpath.normpath("/" + folder).lstrip("/")
    if any(ord(letter) < 32 for letter in clean):
        raise InvalidArgument(f"invalid folder of a repository: {folder!r}")
    return Repository(url=url, ref=ref, folder=clean)
