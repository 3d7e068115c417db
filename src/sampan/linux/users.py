"""Who a container's process is: "user[:group]" against the image's own passwd and group files.

The files are hostile: they are read as bytes through the root's descriptor, must be regular, and
end at a size limit. Nothing of the host (NSS, pwd, grp) is asked. Raises InvalidArgument with
Docker's sentences. Source: moby/sys user.go; CVE-2016-3697, CVE-2022-36109, CVE-2024-40635.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgument
from sampan.linux.paths import open_in_root

MAX_FILE_BYTES: Final = 10 << 20  # as moby; far above any honest file
MAX_ID: Final = (1 << 31) - 1
MAX_GROUPS: Final = 65536  # NGROUPS_MAX, linux/limits.h

_RANGE = f"uids and gids must be in range 0-{MAX_ID}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Numeric identity of a process; `groups` contains `gid`."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = (0,)
    home: str = "/"


def identify(root: int, user: str, additional: Sequence[str] = ()) -> Identity:
    """Resolve `user` ("", "name", "uid", "name:group" ...) and `additional` group names or ids.

    `root` is a descriptor of the container's root directory. Only the files that are needed are
    read. Raises InvalidArgument.
    """
    passwd = read(root, "etc/passwd")
    group = read(root, "etc/group")
    return resolve(user, passwd, group, additional)


def read(root: int, path: str) -> bytes:
    """Return the content of a user database below `root`; empty if there is none.

    Raises InvalidArgument if it is no regular file or too large.
    """
    try:
        handle = open_in_root(root, os.fsencode(path))
    except OSError as failure:
        if failure.errno in (errno.ENOENT, errno.ENOTDIR):
            return b""
        raise InvalidArgument(f"open /{path}: {os.strerror(failure.errno or 0).lower()}") from None
    try:
        # First O_PATH, then a look: to open a device or a FIFO may already have effects.
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise InvalidArgument(f"open /{path}: not a regular file")
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        with open(os.open(f"/proc/self/fd/{handle}", flags), "rb", buffering=0) as file:
            return _limited(file.read, path)
    except OSError as failure:  # a lease of a program in the container, a kernel file …
        raise InvalidArgument(f"open /{path}: {os.strerror(failure.errno or 0).lower()}") from None
    finally:
        os.close(handle)


def _limited(read_some: Callable[[int], bytes | None], path: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := read_some(1 << 18):
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_FILE_BYTES:
            raise InvalidArgument(f"read /{path}: file exceeds {MAX_FILE_BYTES} bytes")
    return b"".join(parts)


def resolve(user: str, passwd: bytes, group: bytes, additional: Sequence[str] = ()) -> Identity:
    """Resolve a user specification against the bytes of both files; raises InvalidArgument."""
    user_part, _, rest = _encoded(user).partition(b":")
    group_part = rest.partition(b":")[0]
    uid = _numeric(user_part) if user_part else 0
    gid, home, name = 0, "/", b""
    for entry in _entries(passwd, 3):
        if (entry[0] == user_part) if uid is None else (_number(entry[2]) == uid):
            name, uid, home = entry[0], _id(entry[2]), _home(entry)
            gid = _id(entry[3]) if len(entry) > 3 and entry[3].isdigit() else 0
            break
    if uid is None:
        raise InvalidArgument(
            f"unable to find user {_shown(user_part)}: no matching entries in passwd file"
        )
    groups: list[int] = []
    if group_part:
        gid = group_id(group_part, group)
    elif name:
        groups = [_id(entry[2]) for entry in _entries(group, 3) if name in _members(entry)]
    groups += [group_id(_encoded(wanted), group) for wanted in additional]
    ordered = tuple(dict.fromkeys([gid, *groups]))
    if len(ordered) > MAX_GROUPS:
        raise InvalidArgument(f"a process can be in at most {MAX_GROUPS} groups")
    return Identity(uid, gid, ordered, home)


def group_id(group: bytes, database: bytes) -> int:
    """Return the id of a group named or numbered `group`; all digits are always an id."""
    gid = _numeric(group)
    if gid is not None:
        return gid
    for entry in _entries(database, 3):
        if entry[0] == group:
            return _id(entry[2])
    raise InvalidArgument(
        f"unable to find group {_shown(group)}: no matching entries in group file"
    )


def _entries(database: bytes, fields: int) -> Iterator[list[bytes]]:
    """Yield the lines that have a name and a decimal id; comments and NIS lines are neither."""
    for line in database.split(b"\n"):
        entry = line.strip().split(b":")
        if len(entry) >= fields and entry[0] and entry[0][:1] != b"#" and entry[2].isdigit():
            yield entry


def _members(entry: list[bytes]) -> list[bytes]:
    return entry[3].split(b",") if len(entry) > 3 else []


def _home(entry: list[bytes]) -> str:
    home = entry[5] if len(entry) > 5 else b""
    return os.fsdecode(home) if home.startswith(b"/") else "/"


def _number(digits: bytes) -> int | None:
    """Return a number of a file, or None for one that no id can have."""
    return int(digits) if len(digits) <= 20 else None


def _id(digits: bytes) -> int:
    value = _number(digits)
    if value is None or value > MAX_ID:
        raise InvalidArgument(_RANGE)
    return value


def _numeric(value: bytes) -> int | None:
    """Return an id that was given as a number, None for a name; raises if out of range."""
    if value.isdigit():
        return _id(value)
    if value[:1] == b"-" and value[1:].isdigit():
        raise InvalidArgument(_RANGE)
    return None


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidArgument(f"unable to find user {text!r}: it is no valid text") from None


def _shown(name: bytes) -> str:
    return name[:256].decode("utf-8", "replace")
