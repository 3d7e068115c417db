"""What is given back of a process's memory, and when that is tried."""

from __future__ import annotations

from sampan.registryd.memory import LONGEST_SECONDS, LOOK_SECONDS, MUCH, Slimming


class Process:
    """Holds memory, a part of it for nothing."""

    def __init__(self) -> None:
        self.used, self.free, self.trims = 50 << 20, 0, 0

    def held(self) -> int:
        return self.used + self.free

    def trim(self) -> None:
        self.trims += 1
        self.free = 0


def test_what_a_flood_took_is_given_back_once() -> None:
    process = Process()
    slimming = Slimming(process.held, process.trim)
    slimming.look()
    process.free = MUCH
    slimming.look()
    assert process.trims == 0
    process.free = MUCH + 1
    slimming.look()
    slimming.look()
    assert (process.trims, process.free) == (1, 0)


def test_what_is_needed_is_looked_at_less_and_less_until_it_is_no_longer() -> None:
    process = Process()
    slimming = Slimming(process.held, process.trim)
    process.used += 4 * MUCH
    pauses = []
    for _ in range(6):
        slimming.look()
        pauses.append(slimming.pause)
    assert pauses[0] == 2 * LOOK_SECONDS
    assert pauses[-1] == LONGEST_SECONDS
    process.used, process.free = 50 << 20, 4 * MUCH
    slimming.look()
    assert process.free == 0
    assert slimming.pause == LOOK_SECONDS
