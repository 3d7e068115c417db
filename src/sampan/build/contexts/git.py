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

from msgspec.structs import replace

from sampan.errors import InvalidArgument
from sampan.http.urls import redacted
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
_TRUE: Final = ("", "true", "1", "t")
_SWITCHES: Final = {"submodules": True, "keep-git-dir": False}  # and what they are by default
_IGNORED: Final = {  # and the values that they may have
    "fetch-by-commit": (*_TRUE, *_FALSE),
    "mtime": ("commit", "checkout"),
}
_REF: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_./+-]*")


def is_repository(address: str) -> bool:
    """Tell whether an address means a git repository."""
    if address.startswith(_SCHEMES):
        return True
    return any(form.fullmatch(address) for form in (_WEB, _SHORT, _SSH))


def parse_repository(address: str) -> Repository:
    """Return what an address means. Raises InvalidArgument for refs and folders that are none."""
    whole, _, fragment = address.partition("#")
    url, _, query = whole.partition("?")
    ref, _, folder = fragment.partition(":")
    wanted = _wanted(query, {"ref": ref, "subdir": folder})
    ref, folder, checksum = wanted["ref"], wanted["subdir"], wanted.get("checksum", "")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    if url.startswith("-") or any(ord(letter) < 33 for letter in url):
        raise InvalidArgument(f"invalid repository: {redacted(url)!r}")
    if ref and (not _REF.fullmatch(ref) or ".." in ref):
        raise InvalidArgument(f"invalid reference of a repository: {ref!r}")
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise InvalidArgument(f"invalid checksum of a repository: {checksum!r}")
    clean = posixpath.normpath("/" + folder).lstrip("/")
    if any(ord(letter) < 32 for letter in clean):
        raise InvalidArgument(f"invalid folder of a repository: {folder!r}")
    submodules, keep_git = (
        wanted.get(name, "true" if default else "false") not in _FALSE
        for name, default in _SWITCHES.items()
    )
    return Repository(
        url=url,
        ref=ref,
        folder=clean,
        checksum=checksum,
        submodules=submodules,
        keep_git=keep_git,
    )


def repository_of(address: str, keep_git: bool | None, checksum: str) -> Repository:
    """Return what ADD means by an address and its flags, of which it may say some itself."""
    meant = parse_repository(address)
    if keep_git is not None:
        if "keep-git-dir" in _query(address) and keep_git != meant.keep_git:
            raise InvalidArgument("inconsistent keep-git-dir configuration")
        meant = replace(meant, keep_git=keep_git)
    if checksum:
        if meant.checksum not in ("", checksum):
            raise InvalidArgument(f'checksum mismatch "{checksum}" != "{meant.checksum}"')
        if not _CHECKSUM.fullmatch(checksum):
            raise InvalidArgument(f"invalid checksum of a repository: {checksum!r}")
        meant = replace(meant, checksum=checksum)
    return meant


def _query(address: str) -> dict[str, list[str]]:
    query = address.partition("#")[0].partition("?")[2]
    return parse_qs(query, keep_blank_values=True)


def _wanted(query: str, wanted: dict[str, str]) -> dict[str, str]:
    """Return what a query says besides what the fragment says."""
    for name, values in parse_qs(query, keep_blank_values=True).items():
        if len(values) > 1:
            raise InvalidArgument(f'query "{name}" has multiple values')
        [value] = values
        known = (*_TRUE, *_FALSE) if name in _SWITCHES else _IGNORED.get(name)
        if known is not None:
            if value.lower() not in known:
                raise InvalidArgument(f'invalid {name} value: "{value}"')
            wanted[name] = value.lower()
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
