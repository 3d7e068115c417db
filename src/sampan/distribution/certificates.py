"""Whom a registry's TLS is trusted by, and which certificate it is shown: the `certs.d` folders.

Source: moby registry/registry.go, ReadCertsDirectory.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from sampan.errors import InvalidArgument

_Files = tuple[tuple[str, int, int], ...]


class Certificates:
    """TLS settings by `host[:port]`; a changed folder is read again."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._known: dict[tuple[_Files, bool], ssl.SSLContext] = {}

    def context(self, names: Sequence[str], *, is_insecure: bool) -> ssl.SSLContext:
        """Return how to speak TLS with a host that is called one of `names`.

        Raises InvalidArgument for a certificate without its key, or a file that is none.
        """
        files = self._files(names)
        key = files, is_insecure
        if key not in self._known:
            if len(self._known) > 64:
                self._known.clear()
            self._known[key] = _context([Path(path) for path, _, _ in files], is_insecure)
        return self._known[key]

    def _files(self, names: Sequence[str]) -> _Files:
        found = []
        for folder in self._folders:
            for name in names:
                try:
                    paths = sorted((folder / name).iterdir())
                except OSError:
                    continue
                for path in paths:
                    if path.suffix in (".crt", ".cert", ".key") and _is_readable(path):
                        about = path.stat()
                        found.append((str(path), about.st_mtime_ns, about.st_size))
        return tuple(found)


def _is_readable(path: Path) -> bool:
    """Tell whether we may read a file, and the key that belongs to it.

    Keys are often readable by root alone: then the daemon was given a copy in another folder.
    """
    needed = [path, path.with_suffix(".key")] if path.suffix == ".cert" else [path]
    return all(os.access(each, os.R_OK) for each in needed if each.exists())


def _context(paths: list[Path], is_insecure: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if is_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in paths:
        try:
            _add(context, path)
        except OSError as error:  # ssl.SSLError is one: not PEM, or a key of another certificate
            raise InvalidArgument(f"could not load X509 key pair {path}: {error}") from error
    return context


def _add(context: ssl.SSLContext, path: Path) -> None:
    if path.suffix == ".crt":
        context.load_verify_locations(path)
    elif path.suffix == ".cert":
        key = path.with_suffix(".key")
        if not key.exists():
            raise InvalidArgument(
                f"missing key {key.name} for client certificate {path.name}."
                " CA certificates must use the extension .crt"
            )
        context.load_cert_chain(path, key)
    elif not path.with_suffix(".cert").exists():
        raise InvalidArgument(
            f"missing client certificate {path.with_suffix('.cert').name} for key {path.name}"
        )
