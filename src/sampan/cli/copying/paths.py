"""The rules of `cp` about paths: trailing slashes and dots, names of what is copied.

Source: moby/go-archive copy.go.
"""

from __future__ import annotations

import os

from sampan.cli.invocation import Exit

LINKS = 10  # followed before giving up, as docker does
MODE_DIRECTORY = 1 << 31  # Go's io/fs.FileMode bits
MODE_LINK = 1 << 27
MODE_DEVICE = 1 << 26
MODE_IRREGULAR = 1 << 19


class Place:
    """A source or destination: its path, whether it exists and is a directory.

    `name` is what the top entry of the archive is called, if it is not the path's last part.
    """

    def __init__(self, path: str, exists: bool, is_directory: bool, name: str = "") -> None:
        self.path = path
        self.exists = exists
        self.is_directory = is_directory
        self.name = name


def base(path: str) -> str:
    """Return the last part of a path as Go does: `x` of `x/`, `.` of `x/.`."""
    stripped = path.rstrip("/")
    if not stripped:
        return "/" if path else "."
    return stripped.rpartition("/")[2]


def is_current(path: str) -> bool:
    """The path ends in `.`: it means the content of the directory, not the directory."""
    return base(path) == "."


def split(path: str) -> tuple[str, str]:
    """Split a path into directory and entry; `x/.` is the entry `.` of `x`."""
    clean = os.path.normpath(path)
    clean = "/" + clean.lstrip("/") if clean.startswith("/") else clean
    if is_current(path):
        return clean, "."
    return os.path.dirname(clean) or ".", os.path.basename(clean) or "/"


def with_ending(clean: str, original: str) -> str:
    """Give a cleaned path the trailing dot or slash of the original."""
    if is_current(original) and not is_current(clean):
        clean = clean.rstrip("/") + "/."
    if original.endswith("/") and not clean.endswith("/"):
        clean += "/"
    return clean


def absolute(path: str) -> str:
    """Make a local path absolute without losing its trailing dot or slash."""
    return with_ending(os.path.abspath(path), path)


def rebased(path: str, resolved: str) -> tuple[str, str]:
    """Return what a followed link leads to, and the name that its copy shall have, if another."""
    resolved = with_ending(resolved, path)
    return resolved, base(path) if base(path) != base(resolved) else ""


def local_source(path: str, follow: bool) -> Place:
    """Find what is copied from here. Raises Exit."""
    try:
        if follow:
            found, name = rebased(path, os.path.realpath(path, strict=True))
        else:
            folder, entry = os.path.split(path)
            found = os.path.join(os.path.realpath(folder, strict=True), entry)
            name = base(path) if path.endswith("/") and base(path) != base(found) else ""
        is_directory = os.path.isdir(found) and not os.path.islink(found)
        os.lstat(found)
    except OSError as error:
        raise Exit(1, f"lstat {error.filename}: {(error.strerror or '').lower()}") from None
    return Place(found, True, is_directory, name)


def local_destination(path: str) -> Place:
    """Find where a copy goes to; its parent has to exist. Raises Exit."""
    for _ in range(LINKS):
        if not os.path.islink(path.rstrip("/")):
            break
        link = path.rstrip("/")
        target = os.path.join(os.path.dirname(link), os.readlink(link))
        path = with_ending(os.path.normpath(target), path)
    else:
        raise Exit(1, f"too many symlinks in {path}")
    if os.path.lexists(path):
        return Place(path, True, os.path.isdir(path))
    if os.path.lexists(path.rstrip("/")):
        raise Exit(1, "not a directory")
    parent = split(path)[0]
    if not os.path.isdir(parent):
        raise Exit(
            1,
            "not a directory"
            if os.path.exists(parent)
            else f"stat {parent}: no such file or directory",
        )
    return Place(path, False, False)


def target_of(source: Place, destination: Place) -> tuple[str, str, str]:
    """Return the directory to unpack in, and how the top entry is renamed: old and new name.

    Two empty names: no change. Raises Exit for what cannot be copied there.
    """
    if destination.exists and destination.is_directory:
        return destination.path, "", ""
    if destination.exists and source.is_directory:
        raise Exit(1, "cannot copy directory")
    if (
        not destination.exists
        and not source.is_directory
        and (destination.path.endswith("/") or is_current(destination.path))
    ):
        raise Exit(1, "no such directory")
    folder, name = split(destination.path)
    return folder, source.name or split(source.path)[1], name


def renamed(name: str, old: str, new: str) -> str:
    """Return the name of an archive's entry with its top part `old` replaced by `new`."""
    if not old:
        return name
    if old == "/":
        return f"{new}/{name.lstrip('/')}"
    if name.rstrip("/") == old:
        return new
    return f"{new}/{name[len(old) + 1 :]}" if name.startswith(f"{old}/") else name


def check_output(path: str) -> None:
    """Refuse a destination whose directory is missing, or that is a device or socket."""
    if path == "-":
        return
    folder = os.path.dirname(os.path.normpath(path))
    if folder and not os.path.exists(folder):
        raise Exit(1, f'invalid output path: directory "{folder}" does not exist')
    plain = path.rstrip("/")
    if path != plain and plain and os.path.exists(plain) and not os.path.isdir(plain):
        raise Exit(1, f"stat {path}: not a directory")
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
        raise Exit(
            1,
            f'invalid output path: "{path}" must be a directory or a regular file: got a device',
        )
