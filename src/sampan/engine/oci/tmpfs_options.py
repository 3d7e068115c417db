"""The options of a tmpfs, as `--tmpfs` and `--mount` write them.

Source: moby daemon/volume/mounts/linux_parser.go, daemon/oci_linux.go.
"""

from __future__ import annotations

from typing import Final

from sampan.errors import InvalidArgument
from sampan.spec.docker.config import TmpfsOptions

_TMPFS_FLAGS: Final = {
    *("ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async"),
    *("dirsync", "mand", "nomand", "atime", "noatime", "diratime", "nodiratime", "relatime"),
    *("norelatime", "strictatime", "nostrictatime", "defaults", "bind", "rbind"),
    *("private", "rprivate", "slave", "rslave", "shared", "rshared"),
}
_TMPFS_VALUES: Final = {"mode", "uid", "gid", "size", "nr_inodes", "nr_blocks", "mpol"}


def options_of(given: TmpfsOptions | None, *, writable: bool) -> list[str]:
    """Return the mount options of a tmpfs of `HostConfig.Mounts`; raises InvalidArgument."""
    options = given or TmpfsOptions()
    found = [] if writable else ["ro"]
    if options.mode:
        found.append(f"mode={options.mode:o}")
    if options.size_bytes:
        found.append(f"size={options.size_bytes}")
    for item in options.options or ():
        if not 1 <= len(item) <= 2:
            raise InvalidArgument("invalid option array length")
        if item[0] not in ("exec", "noexec"):
            raise InvalidArgument(f"invalid option: {item[0]}")
        found.append("=".join(item))
    return merged(found)


def merged(options: list[str]) -> list[str]:
    """Return the options of a tmpfs over Docker's defaults; raises InvalidArgument."""
    found = ["noexec", "nosuid", "nodev"]
    for option in options:
        if not option:
            continue
        key, equals, _ = option.partition("=")
        if (key in _TMPFS_VALUES) if equals else (option in _TMPFS_FLAGS):
            opposite = option.removeprefix("no") if option.startswith("no") else f"no{option}"
            found = [old for old in found if old not in (opposite, option)]
            if option not in ("defaults", "bind", "rbind", "rw", "async"):
                found.append(option)
        else:
            raise InvalidArgument(f'invalid tmpfs option ["{option}"]')
    return found
