"""Certificates of registries for a daemon that is not root: it gets copies of what only root reads.

The administrator keeps them where Docker has them: in a folder for each host[:port] below
`certs.d`, keys for root alone. At the start and at SIGHUP the supervisor copies what the daemon's
user cannot read into the run root, for that user's eyes only. What he can read he reads there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sampan.daemon.privileges import Identity

COPIES = "certs.d"
SUFFIXES = (".crt", ".cert", ".key")
LARGEST = 1 << 20  # bytes of one file
MOST = 4096  # files


def folders(sources: Sequence[str], run_root: str) -> tuple[Path, ...]:
    """Return where the daemon looks for certificates."""
    return (*(Path(source) for source in sources), Path(run_root) / COPIES)


def give(sources: Sequence[str], run_root: str, who: Identity) -> None:
    """Copy what belongs to a certificate or key that `who` cannot read."""
    import shutil  # the supervisor stays small: it needs this twice in its life

    new, place = os.path.join(run_root, f".{COPIES}.new"), os.path.join(run_root, COPIES)
    shutil.rmtree(new, ignore_errors=True)
    os.mkdir(new, 0o700)
    for number, path in enumerate(_hidden(sources, who)):
        if number >= MOST:
            break
        folder = os.path.join(new, path.parent.name)
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o700)
            os.chown(folder, who.uid, who.gid)
        _copy(path, os.path.join(folder, path.name), who)
    os.chown(new, who.uid, who.gid)
    shutil.rmtree(place, ignore_errors=True)
    os.rename(new, place)


def _hidden(sources: Sequence[str], who: Identity) -> Iterator[Path]:
    """Yield the files that have to be copied: a certificate goes with its key."""
    for source in sources:
        try:
            hosts = sorted(Path(source).iterdir())
        except OSError:
            continue  # there is none, or it is no folder
        for host in hosts:
            if host.is_dir():
                yield from _hidden_of(host, who)


def _hidden_of(host: Path, who: Identity) -> Iterator[Path]:
    paths = sorted(path for path in host.iterdir() if path.suffix in SUFFIXES and path.is_file())
    enters = all(_may(folder, who, 0o111) for folder in (host, *host.parents))
    for path in paths:
        pair = (path.with_suffix(".cert"), path.with_suffix(".key"))
        belonging = [each for each in pair if each in paths] if path in pair else [path]
        if not enters or not all(_may(each, who, 0o444) for each in belonging):
            yield path


def _may(path: Path, who: Identity, bits: int) -> bool:
    """Tell whether the permission `bits` (of all three kinds) are given to `who`."""
    about = path.stat()
    if about.st_uid == who.uid:
        return bool(about.st_mode & bits & 0o700)
    if about.st_gid == who.gid:
        return bool(about.st_mode & bits & 0o070)
    return bool(about.st_mode & bits & 0o007)


def _copy(source: Path, target: str, who: Identity) -> None:
    with open(source, "rb") as file:
        content = file.read(LARGEST)
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    with os.fdopen(fd, "wb") as copy:
        os.fchown(fd, who.uid, who.gid)
        copy.write(content)
