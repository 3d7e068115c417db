"""Directories of cgroupfs, held by descriptor, and the small files in them."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def components(path: str) -> list[str]:
    """Split a cgroup path; raises OSError (EINVAL) for one that would leave its hierarchy."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in path or len(path) > 4000:
        raise OSError(errno.EINVAL, "a cgroup path must name a group below the root", path)
    return parts


class Directory:
    """One open directory of cgroupfs."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close the descriptor; harmless when repeated."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read(self, name: str) -> str:
        """Return the content of a file; raises OSError."""
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.fd)
        try:
            content = os.read(fd, 1 << 16)
            while chunk := os.read(fd, 1 << 16):
                content += chunk
        finally:
            os.close(fd)
        return content.decode("ascii", "replace")

    def read_or(self, name: str, default: str) -> str:
        """Return the content of a file, or `default` if it does not exist."""
        try:
            return self.read(name)
        except OSError as failure:
            if failure.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                return default
            raise

    def number(self, name: str, default: int = 0) -> int:
        """Return the number in a file ("max" is `default`, as is a missing file)."""
        content = self.read_or(name, "").strip()
        return int(content) if content.lstrip("-").isdigit() else default

    def table(self, name: str) -> dict[str, int]:
        """Return a flat keyed file: one `key value` per line."""
        return flat(self.read_or(name, ""))

    def write(self, name: str, value: str | int) -> None:
        """Write one value; the OSError of a refusal names the file and the value."""
        data = str(value)
        fd = self.open(name)
        try:
            os.write(fd, data.encode())
        except OSError as failure:
            text = f'failed to write "{data}": {os.strerror(failure.errno or 0)}'
            raise OSError(failure.errno, text, name) from None
        finally:
            os.close(fd)

    def open(self, name: str) -> int:
        """Open a file for writing and return the descriptor."""
        return os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self.fd)

    def has(self, name: str) -> bool:
        """Tell whether a file exists."""
        return os.access(name, os.F_OK, dir_fd=self.fd, follow_symlinks=False)

    def names(self) -> list[str]:
        """Return the names of all files and directories inside."""
        return os.listdir(self.fd)

    def children(self) -> Iterator[str]:
        """Yield the names of the cgroups directly below."""
        with os.scandir(self.fd) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        yield from names


def page_sizes(directory: Directory, suffix: str) -> list[str]:
    """Return the sizes of huge pages that are counted in files with such an ending."""
    return [
        name.removeprefix("hugetlb.").removesuffix(suffix)
        for name in directory.names()
        if name.startswith("hugetlb.") and name.endswith(suffix) and ".rsvd." not in name
    ]


def flat(content: str) -> dict[str, int]:
    """Parse `key value` lines; lines of another shape are left out."""
    table = {}
    for line in content.splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            table[key] = int(value)
    return table


def descend(root: int, parts: list[str]) -> Directory | None:
    """Open a directory below `root`, or return None if it does not exist."""
    fd = -1
    try:
        fd = os.open(parts[0], DIRECTORY, dir_fd=root)
        for part in parts[1:]:
            above, fd = fd, -1
            try:
                fd = os.open(part, DIRECTORY, dir_fd=above)
            finally:
                os.close(above)
    except FileNotFoundError:
        return None
    return Directory(fd)


def make(root: int, parts: list[str]) -> tuple[Directory, int]:
    """Make the missing directories of a path; return the last one and how many were made.

    One mkdir(2) suffices when only the last is missing, which is the usual case.
    """
    path = "/".join(parts)
    made = 0
    try:
        os.mkdir(path, 0o755, dir_fd=root)
        made = 1
    except FileExistsError:
        pass
    except FileNotFoundError:
        for end in range(1, len(parts) + 1):
            try:
                os.mkdir("/".join(parts[:end]), 0o755, dir_fd=root)
                made += 1
            except FileExistsError:
                continue
    return Directory(os.open(path, DIRECTORY, dir_fd=root)), made


def walk(directory: Directory) -> Iterator[Directory]:
    """Yield `directory` and every one below it; each is closed when the next is asked for."""
    yield directory
    for name in list(directory.children()):
        try:
            below = Directory(os.open(name, DIRECTORY, dir_fd=directory.fd))
        except FileNotFoundError:
            continue
        try:
            yield from walk(below)
        finally:
            below.close()


def remove(root: int, parts: list[str], deadline: float) -> None:
    """Remove a cgroup and all below it, waiting for dying processes until `deadline`.

    Raises OSError (EBUSY) at the deadline. `deadline` is on the monotonic clock.
    """
    path = "/".join(parts)
    pause, is_last = 0.0005, False
    while True:
        try:
            os.rmdir(path, dir_fd=root)
            return
        except FileNotFoundError:
            return
        except OSError as failure:
            if failure.errno not in (errno.EBUSY, errno.ENOTEMPTY, errno.EINTR) or is_last:
                raise
        directory = descend(root, parts)
        if directory is None:
            return
        try:
            below = list(directory.children())
        finally:
            directory.close()
        for name in below:
            remove(root, [*parts, name], deadline)
        is_last = time.monotonic() >= deadline
        if not below and not is_last:
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
