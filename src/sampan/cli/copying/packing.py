"""Tar archives of local files, as the body of an upload."""

from __future__ import annotations

import os
import stat
import tarfile

from sampan.cli.copying.paths import Place, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

READ_BYTES = 256 << 10
CAPABILITY = "security.capability"  # the one extended attribute that docker carries along


def pack(source: Place, old: str, new: str) -> Iterator[bytes]:
    """Yield a tar of a file or directory whose top entry `old` is called `new`."""
    folder, name = split(source.path)
    packer = _Packer()
    top = source.name or name
    if old:
        top = new
    yield from packer.entry(os.path.join(folder, name), top)
    yield bytes(2 * tarfile.BLOCKSIZE)


class _Packer:
    def __init__(self) -> None:
        self._links: dict[tuple[int, int], str] = {}

    def entry(self, path: str, name: str) -> Iterator[bytes]:
        status = os.lstat(path)
        info = self._describe(path, name, status)
        if info is None:
            return  # a socket: nothing that an archive could hold
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if info.isreg() and info.size:
            yield from _content(path, info.size)
        if info.isdir():
            for child in sorted(os.listdir(path)):
                yield from self.entry(f"{path}/{child}", f"{name}/{child}")

    def _describe(self, path: str, name: str, status: os.stat_result) -> tarfile.TarInfo | None:
        info = tarfile.TarInfo(name)
        info.mode = stat.S_IMODE(status.st_mode)
        info.uid, info.gid = status.st_uid, status.st_gid
        info.mtime = int(status.st_mtime)
        key = (status.st_dev, status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(status.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
        elif stat.S_ISFIFO(status.st_mode):
            info.type = tarfile.FIFOTYPE
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            info.type = tarfile.CHRTYPE if stat.S_ISCHR(status.st_mode) else tarfile.BLKTYPE
            info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        elif stat.S_ISSOCK(status.st_mode):
            return None
        elif status.st_nlink > 1 and key in self._links:
            info.type, info.linkname = tarfile.LNKTYPE, self._links[key]
        else:
            info.size = status.st_size
            self._links[key] = name
            try:
                value = os.getxattr(path, CAPABILITY, follow_symlinks=False)
                text = value.decode("utf-8", "surrogateescape")
                info.pax_headers = {f"SCHILY.xattr.{CAPABILITY}": text}
            except OSError:
                pass  # it has none, or the file system knows none
        return info


def _content(path: str, size: int) -> Iterator[bytes]:
    """Yield exactly `size` bytes and padding, whatever happens to the file meanwhile."""
    left = size
    with open(path, "rb", buffering=0) as file:
        while left:
            piece = file.read(min(left, READ_BYTES)) or bytes(min(left, READ_BYTES))
            left -= len(piece)
            yield piece
    yield bytes(-size % tarfile.BLOCKSIZE)
