"""The words of mount(8) as the flags and the data of mount(2).

Source: mount(8), util-linux libmount; moby sys/mount flags_linux.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sampan.linux import mounts as m

#: word → (flag, whether it is set)
FLAGS: dict[str, tuple[int, bool]] = {
    "defaults": (0, True),
    "ro": (m.MS_RDONLY, True),
    "rw": (m.MS_RDONLY, False),
    "suid": (m.MS_NOSUID, False),
    "nosuid": (m.MS_NOSUID, True),
    "dev": (m.MS_NODEV, False),
    "nodev": (m.MS_NODEV, True),
    "exec": (m.MS_NOEXEC, False),
    "noexec": (m.MS_NOEXEC, True),
    "sync": (m.MS_SYNCHRONOUS, True),
    "async": (m.MS_SYNCHRONOUS, False),
    "dirsync": (m.MS_DIRSYNC, True),
    "mand": (m.MS_MANDLOCK, True),
    "nomand": (m.MS_MANDLOCK, False),
    "atime": (m.MS_NOATIME, False),
    "noatime": (m.MS_NOATIME, True),
    "diratime": (m.MS_NODIRATIME, False),
    "nodiratime": (m.MS_NODIRATIME, True),
    "relatime": (m.MS_RELATIME, True),
    "norelatime": (m.MS_RELATIME, False),
    "strictatime": (m.MS_STRICTATIME, True),
    "nostrictatime": (m.MS_STRICTATIME, False),
    "lazytime": (m.MS_LAZYTIME, True),
    "nosymfollow": (m.MS_NOSYMFOLLOW, True),
    "bind": (m.MS_BIND, True),
    "rbind": (m.MS_BIND | m.MS_REC, True),
}
PROPAGATION: dict[str, int] = {
    "private": m.MS_PRIVATE,
    "rprivate": m.MS_PRIVATE | m.MS_REC,
    "slave": m.MS_SLAVE,
    "rslave": m.MS_SLAVE | m.MS_REC,
    "shared": m.MS_SHARED,
    "rshared": m.MS_SHARED | m.MS_REC,
    "unbindable": m.MS_UNBINDABLE,
    "runbindable": m.MS_UNBINDABLE | m.MS_REC,
}
#: Words for mount(8) itself, which the kernel does not know.
IGNORED = {"auto", "noauto", "user", "nouser", "users", "owner", "group", "_netdev", "nofail"}


@dataclass(slots=True)
class Words:
    """What mount(2) is told."""

    flags: int = 0
    propagation: list[int] = field(default_factory=list)  # each in a call of its own
    data: list[str] = field(default_factory=list)


def compile_words(options: Iterable[str]) -> Words:
    """Sort the words of mount(8); those that nobody knows are for the file system."""
    words = Words()
    for option in options:
        if option in FLAGS:
            flag, is_set = FLAGS[option]
            words.flags = words.flags | flag if is_set else words.flags & ~flag
        elif option in PROPAGATION:
            words.propagation.append(PROPAGATION[option])
        elif option and option not in IGNORED:
            words.data.append(option)
    return words


def mount(source: str, target: bytes, path: bytes, kind: str, options: Iterable[str]) -> None:
    """Mount as mount(8) does, and set what a bind leaves to a second call. Raises OSError.

    `target` may be a link in /proc to the place; `path` is where the mount is found afterwards.
    """
    words = compile_words(options)
    data = ",".join(words.data).encode("utf-8", "surrogateescape")
    name = None if kind in ("", "none", "bind") else kind.encode()
    m.mount(source.encode("utf-8", "surrogateescape"), target, name, words.flags, data)
    if not words.flags & m.MS_BIND and not words.propagation:
        return
    try:
        if words.flags & m.MS_BIND and (more := words.flags & ~(m.MS_BIND | m.MS_REC)):
            m.mount(None, path, None, m.MS_BIND | m.MS_REMOUNT | more)
        for kind_of in words.propagation:
            m.mount(None, path, None, kind_of)
    except OSError:
        m.umount2(path, m.MNT_DETACH)
        raise
