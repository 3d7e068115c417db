"""From method and path to handler."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

H = TypeVar("H", bound=Callable[..., object])
_PARAMETER = re.compile(r"\{([a-z_]+)(:\.\*)?\}")


class Routes(Generic[H]):
    """The routes of one module, in the order in which they are tried."""

    def __init__(self) -> None:
        self.table: list[tuple[str, str, H]] = []

    def on(self, method: str, path: str) -> Callable[[H], H]:
        """Register a handler for `path`; `{name}` is one segment, `{name:.*}` may span several."""

        def register(handler: H) -> H:
            self.table.append((method, path, handler))
            return handler

        return register


class Router(Generic[H]):
    """All routes of a face."""

    def __init__(self, *modules: Routes[H]) -> None:
        self._by_start: dict[tuple[str, str], list[tuple[re.Pattern[str], H]]] = {}
        self.operations: list[tuple[str, str]] = []
        for routes in modules:
            self._add(routes.table)

    def _add(self, table: Iterable[tuple[str, str, H]]) -> None:
        for method, path, handler in table:
            start = path.split("/", 2)[1]
            self.operations.append((method, path))
            self._by_start.setdefault((method, start), []).append((_pattern(path), handler))

    def find(self, method: str, path: str) -> tuple[H, dict[str, str]] | None:
        """Return the handler with the parameters of the path; None if nothing is there."""
        start = path.split("/", 2)[1] if path.startswith("/") else ""
        for pattern, handler in self._by_start.get((method, start), ()):
            if found := pattern.fullmatch(path):
                return handler, found.groupdict()
        return None


def _pattern(path: str) -> re.Pattern[str]:
    pieces, end = [], 0
    for parameter in _PARAMETER.finditer(path):
        pieces.append(re.escape(path[end : parameter.start()]))
        kind = ".+" if parameter[2] else "[^/]+"
        pieces.append(f"(?P<{parameter[1]}>{kind})")
        end = parameter.end()
    pieces.append(re.escape(path[end:]))
    return re.compile("".join(pieces), re.DOTALL)
