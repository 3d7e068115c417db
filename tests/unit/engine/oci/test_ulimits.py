from __future__ import annotations

import resource

import pytest

from sampan.engine.oci.ulimits import check_oom_score, check_ulimits
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import Ulimit


def ours(number: int) -> tuple[int, int]:
    return (0, 4096) if number == resource.RLIMIT_NOFILE else (0, resource.RLIM_INFINITY)


def files(soft: int, hard: int) -> list[Ulimit]:
    return [Ulimit(name="nofile", soft=soft, hard=hard)]


def test_a_limit_that_we_may_give_needs_no_word() -> None:
    assert check_ulimits(files(10, 4096), may_raise=False, ours=ours) == []
    assert check_ulimits(files(10, 9000), may_raise=True, ours=ours) == []
    core = [Ulimit(name="core", soft=-1, hard=-1)]
    assert check_ulimits(core, may_raise=False, ours=ours) == []


@pytest.mark.parametrize("hard", [4097, -1])
def test_a_limit_above_ours_is_warned_of(hard: int) -> None:
    (warning,) = check_ulimits(files(10, hard), may_raise=False, ours=ours)
    assert warning.endswith(f"Ulimit nofile lowered from {hard} to 4096.")


@pytest.mark.parametrize("wrong", [files(9, 8), files(-1, 8), [Ulimit(name="NOFILE")]])
def test_a_limit_that_cannot_be_is_refused(wrong: list[Ulimit]) -> None:
    with pytest.raises(InvalidArgument, match="ulimit"):
        check_ulimits(wrong, may_raise=True, ours=ours)


@pytest.mark.parametrize(
    ("score", "may_raise", "warned"),
    [(-1, False, True), (-1, True, False), (0, False, False), (5, False, False)],
)
def test_only_root_with_its_powers_protects_from_the_oom_killer(
    score: int, may_raise: bool, warned: bool
) -> None:
    assert bool(check_oom_score(score, may_raise=may_raise)) is warned
