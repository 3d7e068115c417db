"""When and what is mirrored: times as cron says them, or intervals, and patterns of names."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cronsim import CronSim, CronSimError

from sampan.errors import InvalidArgument

NEVER = 366 * 86400.0  # seconds; longer than any loop should sleep


@dataclass(frozen=True)
class Mirroring:
    """What of an upstream is fetched before anybody asks, and when."""

    repositories: tuple[str, ...]  # names there, or patterns of them
    tags: tuple[str, ...] = ("*",)  # patterns
    platforms: tuple[str, ...] = ()  # os/architecture[/variant]; empty: all
    interval: float = 0.0  # seconds between two rounds
    cron: str = ""  # in place of an interval: five fields, see crontab(5)

    def __post_init__(self) -> None:
        if bool(self.interval) == bool(self.cron):
            raise InvalidArgument("mirroring needs an interval or a cron")
        if self.cron:
            try:
                self.wait(datetime.now().astimezone())
            except CronSimError as error:
                raise InvalidArgument(f"{self.cron!r} is no cron: {error}") from None

    def wait(self, now: datetime) -> float:
        """Return the seconds to the next round, after one that ends now."""
        if not self.cron:
            return self.interval
        following = next(CronSim(self.cron, now), None)
        return (following - now).total_seconds() if following else NEVER


def matches(text: str, patterns: Sequence[str]) -> bool:
    """Tell whether one of some patterns fits: `*` is anything, `?` one character, `[ab]` one."""
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def is_pattern(text: str) -> bool:
    """Tell whether a name is a pattern."""
    return any(mark in text for mark in "*?[")
