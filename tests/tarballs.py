"""Archives for tests: honest ones by tarfile, dishonest ones by hand."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable

END = bytes(1024)


def raw(
    name: bytes,
    kind: bytes = b"0",
    data: bytes = b"",
    *,
    size: bytes | None = None,
    link: bytes = b"",
    mode: bytes = b"0000644",
    uid: bytes = b"0000000",
    device: tuple[int, int] = (0, 0),
    checksum: bytes | None = None,
) -> bytes:
    """Return one member as bytes; every field can be a lie."""
    size = b"%011o" % len(data) if size is None else size
    head = (
        name.ljust(100, b"\0")[:100]
        + mode.ljust(8, b"\0")
        + uid.ljust(8, b"\0")
        + b"0000000\0"
        + size.ljust(12, b"\0")
        + b"00000000000\0"
        + b"        "
        + kind
        + link.ljust(100, b"\0")[:100]
        + b"ustar\x0000"
        + bytes(64)
        + b"%07o\0%07o\0" % device
        + bytes(167)
    )
    total = b"%06o\0 " % sum(head) if checksum is None else checksum
    return head[:148] + total + head[156:] + data + bytes(-len(data) % 512)


def pax(records: dict[str, bytes]) -> bytes:
    """Return an extended header for the member that follows."""
    return raw(b"PaxHeaders/x", b"x", b"".join(pax_record(k, v) for k, v in records.items()))


def pax_record(key: str, value: bytes) -> bytes:
    """Return one record with its length."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key.encode(), value)


def folder(name: str, mode: int = 0o755) -> bytes:
    """Return a directory."""
    return raw(name.encode(), b"5", mode=b"%07o" % mode)


def file(name: str, data: bytes = b"", mode: int = 0o644) -> bytes:
    """Return a regular file."""
    return raw(name.encode(), b"0", data, mode=b"%07o" % mode)


def symlink(name: str, target: str) -> bytes:
    """Return a symbolic link."""
    return raw(name.encode(), b"2", link=target.encode())


def hardlink(name: str, target: str) -> bytes:
    """Return a hard link."""
    return raw(name.encode(), b"1", link=target.encode())


def archive(*members: bytes) -> bytes:
    """Return a whole archive."""
    return b"".join(members) + END


def digest(content: bytes) -> str:
    """Return the digest of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def chain(*layers: bytes) -> str:
    """Return the chain id of uncompressed layers, lowest first."""
    result = digest(layers[0])
    for layer in layers[1:]:
        result = digest(f"{result} {digest(layer)}".encode())
    return result


def memory_file(content: bytes) -> int:
    """Return a descriptor of a file with this content, at its beginning."""
    fd = os.memfd_create("archive", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as out:
        out.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def contents(fd: int) -> bytes:
    """Return a file from its beginning."""
    return os.pread(fd, os.fstat(fd).st_size, 0)


def names(content: bytes) -> list[str]:
    """Return the names in an archive, as Python's reader sees them."""
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        return opened.getnames()


def by_tarfile(entries: Iterable[tuple[tarfile.TarInfo, bytes]], form: int) -> bytes:
    """Return an archive that Python's writer made in one of its formats."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as opened:
        for info, data in entries:
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return out.getvalue()
