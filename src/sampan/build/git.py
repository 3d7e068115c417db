"""Addresses of git repositories, as `docker build` and ADD take them: URL#REF:FOLDER
or URL?ref=REF&subdir=FOLDER.

Source: docker documentation, "Build context", "Git repositories"; buildkit util/gitutil,
frontend/dockerfile/dfgitutil (queries).
"""

from __future__ import annotations

import posixpath
import re
from typing import Final
from urllib.parse import parse_qs

from sampan.errors import InvalidArgument, Unsupported
from sampan.spec.build import Repository

_SCHEMES: Final = ("git://", "ssh://")
_WEB: Final = re.compile(r"https?://[^#?]+\.git(?:[#?].*)?", re.DOTALL)
_SHORT: Final = re.compile(r"github\.com/[^#]+/[^#]+(?:#.*)?", re.DOTALL)
_SSH: Final = re.compile(r"[a-zA-Z0-9_.-]+@[a-zA-Z0-9_.-]+:[^#]+(?:#.*)?", re.DOTALL)
_CHECKSUM: Final = re.compile(r"[0-9a-f]{7,64}")
_WORDS: Final = {  # of queries: what they say, and how that begins
    "ref": ("ref", ""),
    "tag": ("ref", "refs/tags/"),
    "branch": ("ref", "refs/heads/"),
    "subdir": ("subdir", ""),
    "checksum": ("checksum", ""),
    "commit": ("checksum", ""),
}
_FALSE: Final = ("false", "0", "f")
_ANY: Final = ("", "true", "1", "t", *_FALSE)
_SWITCHES: Final = {  # and the values that change nothing here
    "submodules": _FALSE,
    "keep-git-dir": _FALSE,
    "fetch-by-commit": _ANY,
    "mtime": ("commit", "checkout"),
}
_REF: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_./+-]*")


def is_repository(address: str) -> bool:
    """Tell whether an address means a git repository."""
    if address.startswith(_SCHEMES):
        return True
    return any(form.fullmatch(address) for form in (_WEB, _SHORT, _SSH))


def parse_repository(address: str) -> Repository:
    """Return what an address means. Raises InvalidArgument for refs and folders that are none.

    Raises Unsupported for what its query wants that is not there.
    """
    whole, _, fragment = address.partition("#")
    url, _, query = whole.partition("?")
    ref, _, folder = fragment.partition(":")
    wanted = _wanted(query, {"ref": ref, "subdir": folder})
    ref, folder, checksum = wanted["ref"], wanted["subdir"], wanted.get("checksum", "")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    if url.startswith("-") or any(ord(letter) < 33 for letter in url):
        raise InvalidArgument(f"invalid repository: {url!r}")
    if ref and (not _REF.fullmatch(ref) or ".." in ref):
        raise InvalidArgument(f"invalid reference of a repository: {ref!r}")
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise InvalidArgument(f"invalid checksum of a repository: {checksum!r}")
    clean = posixpath.normpath("/" + folder).lstrip("/")
    if any(ord(letter) < 32 for letter in clean):
        raise InvalidArgument(f"invalid folder of a repository: {folder!r}")
    return Repository(url=url, ref=ref, folder=clean, checksum=checksum)


def _wanted(query: str, wanted: dict[str, str]) -> dict[str, str]:
    """Return what a query says besides what the fragment says."""
    for name, values in parse_qs(query, keep_blank_values=True).items():
        if len(values) > 1:
            raise InvalidArgument(f'query "{name}" has multiple values')
        [value] = values
        if name in _SWITCHES:
            if value.lower() not in _SWITCHES[name]:
                raise Unsupported(f"{name}={value or 'true'} of a repository is not supported")
            continue
        if name not in _WORDS:
            raise InvalidArgument(f'unexpected query "{name}"')
        if not value:
            raise InvalidArgument(f'query "{name}" has no value')
        name, prefix = _WORDS[name]
        value = prefix + value.removeprefix(prefix)
        if wanted.get(name) not in (None, "", value):
            raise InvalidArgument(f'{name} conflicts: "{wanted[name]}" vs "{value}"')
        wanted[name] = value
    return wanted
