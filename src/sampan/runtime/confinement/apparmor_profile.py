"""The AppArmor profile of containers, as text for apparmor_parser(8).

It stands behind the masked and read-only paths: what a program could do to /proc and /sys after it
had undone those mounts, it still may not. Rules name what is forbidden; the rest is allowed, as in
Docker's profile. Source of the facts: moby/profiles apparmor, apparmor.d(5).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

NAME: Final = "sampan-default"

#: Nobody in a container reads, writes, links or executes these.
_CLOSED: Final = (
    "@{PROC}/sysrq-trigger",
    "@{PROC}/kcore",
    "/sys/firmware/**",
    "/sys/devices/virtual/powercap/**",
    "/sys/kernel/security/**",
)


def profile(*, daemon: str = "unconfined", abi: bool, tunables: bool, base: bool) -> str:
    """Return the profile. `daemon` is the profile of those who send signals from the host.

    `abi`, `tunables` and `base` tell whether the host has these files of /etc/apparmor.d.
    """
    lines = [
        # Later versions of the rules would forbid Unix sockets, which "network" stands for here.
        *(["abi <abi/3.0>,"] if abi else []),
        "#include <tunables/global>" if tunables else "@{PROC}=/proc/",
        f'profile "{NAME}" flags=(attach_disconnected,mediate_deleted) {{',
        *(f"  {line}" for line in _rules(daemon, base=base)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _rules(daemon: str, *, base: bool) -> Iterator[str]:
    if base:
        yield "#include <abstractions/base>"
    yield from ("network,", "capability,", "file,", "umount,")
    yield "deny network alg,"  # CVE-2026-31431, also by socketcall(2), where no filter can look
    yield "deny mount,"
    for peer in dict.fromkeys(("unconfined", daemon)):
        yield f'signal (receive) peer="{peer}",'
    yield f'signal (send, receive) peer="{NAME}",'
    yield f'ptrace (trace, tracedby, read, readby) peer="{NAME}",'
    yield "deny @{PROC}/* w,"
    for pattern in ("[^0-9s]*", *_unlike("s", "ys"), "sys?*"):  # all folders but processes and sys
        yield f"deny @{{PROC}}/{pattern}/** w,"
    for pattern in _all_but("kernel/shm"):
        yield f"deny @{{PROC}}/sys/{pattern} w,"
    for pattern in _all_but("fs/cgroup/"):
        yield f"deny /sys/{pattern} wklx,"
    for path in _CLOSED:
        yield f"deny {path} rwklx,"


def _unlike(beginning: str, rest: str) -> Iterator[str]:
    """Yield patterns for the names that begin so and do not go on so."""
    for place, letter in enumerate(rest):
        yield f"{beginning}{rest[:place]}[^{letter}]*"


def _all_but(path: str) -> Iterator[str]:
    """Yield patterns for all files but those whose path begins so."""
    for place, letter in enumerate(path):
        if letter == "/":  # a longer name
            yield f"{path[:place]}[^/]**"
        else:
            yield f"{path[:place]}[^{letter}]**"
