"""The device list of the OCI specification, reduced to what the kernel is told.

Rules apply in order on top of "nothing is allowed"; the result is a default and its exceptions,
which is the model of the v1 controller. The v2 program (`linux/bpf.py`) evaluates rules in order.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field

from sampan.linux.cgroups.files import Directory
from sampan.spec.runtime import LinuxDeviceCgroup

Key = tuple[str, int, int]
"""Type (b or c), major, minor; -1 for all."""


@dataclass(slots=True)
class DeviceList:
    """The state of a v1 devices controller."""

    allow: bool = False  # what happens to a device that no exception names
    exceptions: dict[Key, frozenset[str]] = field(default_factory=dict)


def checked(rule: LinuxDeviceCgroup) -> LinuxDeviceCgroup:
    """Return the rule if it is one; raises OSError (EINVAL)."""
    numbers = (rule.major, rule.minor)
    ranged = all(number is None or -1 <= number < 1 << 32 for number in numbers)
    if rule.type not in ("a", "b", "c", "") or not set(rule.access) <= set("rwm") or not ranged:
        raise OSError(errno.EINVAL, f"invalid device rule {line(rule)!r}", "devices")
    return rule


def is_wildcard(rule: LinuxDeviceCgroup) -> bool:
    """Tell whether a rule speaks of every device; such a rule resets the list."""
    return rule.type in ("a", "")


def resulting(rules: Sequence[LinuxDeviceCgroup]) -> DeviceList:
    """Return the list that `rules` lead to."""
    state = DeviceList()
    for rule in map(checked, rules):
        if is_wildcard(rule):
            state = DeviceList(allow=rule.allow)
            continue
        key, access = _key(rule), frozenset(rule.access or "rwm")
        if rule.allow == state.allow:
            _refuse_partial_removal(state, key, access, rule)
        present = state.exceptions.get(key, frozenset())
        left = present | access if rule.allow != state.allow else present - access
        state.exceptions[key] = left
        if not left:
            del state.exceptions[key]
    return state


def _refuse_partial_removal(
    state: DeviceList, key: Key, access: frozenset[str], rule: LinuxDeviceCgroup
) -> None:
    """Raise for a hole in a wildcard exception: v1 would silently keep the hole closed or open."""
    for other, present in state.exceptions.items():
        covers = other[0] == key[0] and other[1] in (-1, key[1]) and other[2] in (-1, key[2])
        if covers and other != key and present & access:
            text = f"device rule {line(rule)!r} makes a hole in {_text(other, present)!r}"
            raise OSError(errno.EINVAL, text, "devices")


def parse(listing: str) -> DeviceList:
    """Parse devices.list; "a *:* rwm" means that all is allowed (exceptions are not shown then)."""
    state = DeviceList()
    for entry in listing.splitlines():
        kind, numbers, access = entry.split(" ")
        if kind == "a":
            return DeviceList(allow=True)
        major, _, minor = numbers.partition(":")
        numbered = [-1 if number == "*" else int(number) for number in (major, minor)]
        state.exceptions[kind, numbered[0], numbered[1]] = frozenset(access)
    return state


def write(directory: Directory, rules: Sequence[LinuxDeviceCgroup]) -> None:
    """Bring a v1 cgroup to the list that `rules` lead to, with as few changes as can be.

    Additions go first, so a device that is allowed before and after is never refused between.
    """
    wanted = resulting(rules)
    current = parse(directory.read("devices.list"))
    if current.allow or wanted.allow:
        directory.write("devices.allow" if wanted.allow else "devices.deny", "a")
        current = DeviceList(allow=wanted.allow)
    grow, shrink = ("deny", "allow") if wanted.allow else ("allow", "deny")
    for key, access in wanted.exceptions.items():
        if extra := access - current.exceptions.get(key, frozenset()):
            directory.write(f"devices.{grow}", _text(key, extra))
    for key, access in current.exceptions.items():
        if surplus := access - wanted.exceptions.get(key, frozenset()):
            directory.write(f"devices.{shrink}", _text(key, surplus))


def line(rule: LinuxDeviceCgroup) -> str:
    """Return a rule as the v1 controller writes it: `c 1:3 rwm`."""
    if is_wildcard(rule):
        return "a *:* rwm"
    return f"{rule.type} {_shown(rule.major)}:{_shown(rule.minor)} {rule.access or 'rwm'}"


def _key(rule: LinuxDeviceCgroup) -> Key:
    major = -1 if rule.major is None else rule.major
    minor = -1 if rule.minor is None else rule.minor
    return rule.type, major, minor


def _text(key: Key, access: frozenset[str]) -> str:
    letters = "".join(letter for letter in "rwm" if letter in access)
    return f"{key[0]} {_shown(key[1])}:{_shown(key[2])} {letters}"


def _shown(number: int | None) -> str:
    return "*" if number is None or number == -1 else str(number)
