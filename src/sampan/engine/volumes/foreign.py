"""Volumes as plug-ins tell them, also those that this engine did not make."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import UNSET

from sampan.engine.blocking import in_own_thread
from sampan.engine.volumes.drivers import Drivers
from sampan.errors import SampanError
from sampan.spec.docker.volumes import Volume
from sampan.volumes.plugin import LIST_SECONDS


@dataclass(slots=True)
class Told:
    """What plug-ins have said when they were asked for all of their volumes."""

    volumes: list[Volume] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # one for each plug-in that failed


async def ask_all(drivers: Drivers, names: Iterable[str]) -> Told:
    """Ask plug-ins, all at once; none is waited for longer than a person would."""
    told = Told()
    asked = sorted(set(names))
    answers = await asyncio.gather(*(_ask(drivers, it) for it in asked), return_exceptions=True)
    for name, answer in zip(asked, answers, strict=True):
        if isinstance(answer, SampanError):
            told.warnings.append(str(answer))
        elif isinstance(answer, TimeoutError):
            told.warnings.append(f"the volume plugin {name} does not answer")
        elif isinstance(answer, BaseException):
            raise answer
        else:
            told.volumes += answer
    return told


async def _ask(drivers: Drivers, name: str) -> list[Volume]:
    async with asyncio.timeout(LIST_SECONDS):
        plugin = await in_own_thread(drivers.plugin, name)
        known = await in_own_thread(plugin.volumes)
    return [
        Volume(
            created_at=each.created_at,
            driver=name,
            mountpoint=each.mountpoint,
            name=each.name,
            scope=plugin.scope,
            status=each.status or UNSET,
        )
        for each in known
    ]
