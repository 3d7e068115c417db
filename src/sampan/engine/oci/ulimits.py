"""Limits of processes (`--ulimit`, `--oom-score-adj`), checked before there is a container.

Source: docker/go-units ulimit.go, moby daemon/daemon_unix.go.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence

from sampan.errors import InvalidArgument
from sampan.linux.process import RLIMITS
from sampan.spec.docker.config import Ulimit

UNLIMITED = 1 << 64  # above any number


def check_ulimits(
    wanted: Sequence[Ulimit],
    *,
    may_raise: bool,
    ours: Callable[[int], tuple[int, int]] = resource.getrlimit,
) -> list[str]:
    """Return a warning for each hard limit that will be lowered to ours.

    Raises InvalidArgument for a name that is none, and for a soft limit above its hard one.
    """
    warnings = []
    for each in wanted:
        number = RLIMITS.get(f"RLIMIT_{each.name.upper()}")
        if number is None or each.name != each.name.lower():
            raise InvalidArgument(f"invalid ulimit type: {each.name}")
        soft, hard = _size(each.soft), _size(each.hard)
        if soft > hard:
            raise InvalidArgument(
                "ulimit soft limit must be less than or equal to hard limit: "
                f"{each.soft} > {each.hard}"
            )
        most = ours(number)[1]
        if not may_raise and hard > _size(most):
            warnings.append(
                f"Hard limits cannot be raised without CAP_SYS_RESOURCE. "
                f"Ulimit {each.name} lowered from {each.hard} to {most}."
            )
    return warnings


def _size(limit: int) -> int:
    return UNLIMITED if limit < 0 else limit


def check_oom_score(score: int, *, may_raise: bool) -> list[str]:
    """Return a warning if a container cannot be protected from the OOM killer here."""
    if score >= 0 or may_raise:
        return []
    return [
        "A negative OOM score adjustment needs CAP_SYS_RESOURCE. "
        f"The adjustment of {score} is discarded."
    ]
