"""Doing one thing to several containers, at once, and telling of each in order."""

from __future__ import annotations

from sampan.cli.invocation import Exit
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.cli.invocation import Invocation
    from sampan.client.api import Client

MOST_AT_ONCE = 50


def each(cli: Invocation, names: list[str], action: Callable[[Client, str], None]) -> int:
    """Call `action` for every name, print the names that succeeded, then fail with the errors."""
    outcomes = _together(cli, names, action) if len(names) > 1 else _one(cli, names, action)
    errors = []
    for name, outcome in zip(names, outcomes, strict=True):
        if outcome is None:
            cli.out.line(name)
        elif outcome:
            errors.append(outcome)
    if errors:
        raise Exit(1, "\n".join(errors))
    return 0


def _one(
    cli: Invocation, names: list[str], action: Callable[[Client, str], None]
) -> list[str | None]:
    try:
        for name in names:
            action(cli.client, name)
    except SampanError as error:
        return [str(error)]
    return [None]


def _together(
    cli: Invocation, names: list[str], action: Callable[[Client, str], None]
) -> list[str | None]:
    from concurrent.futures import ThreadPoolExecutor

    def attempt(name: str) -> str | None:
        with cli.new_client() as client:
            try:
                action(client, name)
            except SampanError as error:
                return str(error)
        return None

    with ThreadPoolExecutor(min(len(names), MOST_AT_ONCE)) as pool:
        return list(pool.map(attempt, names))
