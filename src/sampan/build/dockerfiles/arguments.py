"""Build arguments: what ARG means, and which there are without it.

Source: docker documentation, Dockerfile reference, "ARG", "Predefined ARGs", "Automatic platform
ARGs in the global scope".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sampan.build.dockerfiles.shell import Shell
from sampan.build.instructions.model import Arg
from sampan.spec.platform import Platform

# Known to RUN without ARG, and no part of keys and history.
PROXIES: Final = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)


def platform_arguments(target: Platform, target_stage: str) -> dict[str, str]:
    """Return the arguments that say for what, and on what, is built."""
    build = Platform.host()
    found = {"TARGETSTAGE": target_stage or "default"}
    for prefix, platform in (("TARGET", target), ("BUILD", build)):
        found |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    return found


@dataclass(slots=True)
class Arguments:
    """The arguments of one build. `given` is what the client said, `automatic` what we know."""

    given: Mapping[str, str | None]
    automatic: Mapping[str, str]
    shell: Shell
    top: dict[str, str] = field(default_factory=dict)  # declared before the first FROM
    consumed: set[str] = field(default_factory=set)

    def declare_top(self, declarations: Sequence[Arg]) -> None:
        """Evaluate the ARGs before the first FROM."""
        for declaration in declarations:
            for name, default in declaration.variables:
                known = {**self.automatic, **self.top}
                value = self._given(name)
                if value is None and default is not None:
                    value = self.shell.word(default, known)
                if value is None:
                    value = self.automatic.get(name)
                if value is not None:
                    self.top[name] = value

    def from_variables(self) -> dict[str, str]:
        """Return what may stand in a FROM."""
        given = {name: value for name, value in self.given.items() if name in self.automatic}
        return {**self.automatic, **{k: v for k, v in given.items() if v is not None}, **self.top}

    def declare(self, name: str, default: str | None) -> str | None:
        """Return the value of an ARG inside of a stage, None if it has none."""
        value = self._given(name)
        if value is not None:
            return value
        if default is not None:
            return default
        if name in self.top:
            return self.top[name]
        return self.automatic.get(name)

    def _given(self, name: str) -> str | None:
        if name in self.given:
            self.consumed.add(name)
        return self.given.get(name)

    def proxies(self) -> dict[str, str]:
        """Return the proxies that the client gave."""
        found = {name: value for name, value in self.given.items() if name in PROXIES}
        self.consumed.update(found)
        return {name: value for name, value in found.items() if value is not None}

    def unused(self) -> list[str]:
        """Return what the client gave and nobody asked for."""
        known = {*self.consumed, *PROXIES, *self.automatic, "SOURCE_DATE_EPOCH"}
        return sorted(
            name for name in self.given if name not in known and not name.startswith("BUILDKIT_")
        )
