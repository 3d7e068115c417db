"""What is mounted in a mount namespace, as /proc/PID/mountinfo tells it.

Source: proc_pid_mountinfo(5).
"""

from __future__ import annotations

from collections.abc import Iterator

_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def unescaped(path: str) -> str:
    """Return a path as it is, where the kernel has written blanks and backslashes in octal."""
    for code, character in _ESCAPES:
        path = path.replace(code, character)
    return path


def mount_points() -> Iterator[str]:
    """Yield where something is mounted in this process's namespace, in the kernel's order."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            yield unescaped(line.split(" ")[4])
