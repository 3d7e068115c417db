"""Where clients get blobs by themselves: the storage's address, and what middlewares make of it.

Source: distribution registry/storage/driver/middleware/{redirect,rewrite}, 2.8.3 and 3.1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from sampan.errors import InvalidArgument
from sampan.registry.drivers.objects.options import Options

Inner = Callable[[], str]


class Middleware(Protocol):
    """Makes another address of that which is there without it."""

    def url(self, path: str, client: str, inner: Inner) -> str:
        """Return the address of a file for a client at an IP address; empty for none."""

    def close(self) -> None: ...


class Addresses:
    """The addresses of files; the last middleware has the last word."""

    def __init__(
        self, storage: Callable[[str, str], str], middlewares: Sequence[Middleware] = ()
    ) -> None:
        self._storage = storage
        self._middlewares = middlewares

    def url(self, path: str, method: str, client: str) -> str:
        """Return where a client gets a file; empty if there is no such place. It may block."""
        found: Inner = partial(self._storage, path, method)
        for middleware in self._middlewares:
            found = partial(middleware.url, path, client, found)
        return found()

    def close(self) -> None:
        for middleware in self._middlewares:
            middleware.close()


class Redirect:
    """Sends clients to another server that has the same files."""

    def __init__(self, options: Options) -> None:
        base = options.text("baseurl", needed=True)
        parts = urlsplit(base)
        if not parts.scheme or not parts.netloc:
            raise InvalidArgument(f"{options.place}.baseurl: must have a scheme and a host")
        self._base = base.rstrip("/")

    def url(self, path: str, client: str, inner: Inner) -> str:
        return f"{self._base}/{quote(path)}"

    def close(self) -> None:
        """Nothing is held."""


class Rewrite:
    """Changes the scheme, the host, and the beginning of the path of the storage's addresses."""

    def __init__(self, options: Options) -> None:
        self._scheme = options.text("scheme")
        self._host = options.text("host")
        self._trim = options.text("trimpathprefix")

    def url(self, path: str, client: str, inner: Inner) -> str:
        found = inner()
        if not found:
            return ""
        parts = urlsplit(found)
        return urlunsplit(
            parts._replace(
                scheme=self._scheme or parts.scheme,
                netloc=self._host or parts.netloc,
                path=parts.path.removeprefix(self._trim),
            )
        )

    def close(self) -> None:
        """Nothing is held."""
