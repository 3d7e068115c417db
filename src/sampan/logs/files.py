"""The files of one container's log: where they are, how they are written, rotated and compressed.

The newest file has the plain name, rotated ones end in .1 (newest) to .N, with .gz if compressed.
"""

from __future__ import annotations

import logging
import os
import signal
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from sampan.logs.driver import LINE_BYTES, Codec, validate_options
from sampan.logs.json_file import JsonFile
from sampan.logs.local import Local

log = logging.getLogger(__name__)

QUIET = 3600.0  # seconds between two complaints about the same log
SMALL_FILE = 1 << 20  # below this size of a file, blocks are written line by line to keep the cap


def log_path(folder: Path, id: str, driver: str) -> Path | None:
    """Return the newest log file of a container; None for a driver without files."""
    if driver == "json-file":
        return folder / f"{id}-json.log"
    if driver == "local":
        return folder / f"{id}-local.log"
    return None


def codec(driver: str, attributes: Mapping[str, str] | None = None) -> Codec:
    """Return the file format of `driver`."""
    return JsonFile(attributes) if driver == "json-file" else Local()


def open_writer(
    folder: Path,
    id: str,
    driver: str,
    options: Mapping[str, str],
    attributes: Mapping[str, str],
    gid: int,
) -> LogWriter | None:
    """Open the log of a container for writing; None if `driver` keeps none.

    The files belong to the group `gid`, which may read them. Raises OSError, InvalidArgument.
    """
    path = log_path(folder, id, driver)
    if path is None:
        return None
    return LogWriter(path, codec(driver, attributes), dict(attributes), options, driver, gid)


class LogWriter:
    """Appends blocks of output, rotates, compresses. Never raises: a full disk costs lines."""

    def __init__(
        self,
        path: Path,
        codec: Codec,
        attributes: dict[str, str],
        options: Mapping[str, str],
        driver: str,
        gid: int,
    ) -> None:
        self.path, self._codec, self._gid = path, codec, gid
        self._options = validate_options(driver, options)
        self._preamble = codec.preamble(attributes)
        self._complain_again = 0.0
        self._compressor = -1  # pidfd
        self._fd, self.size = self._open()

    def write(self, stream: str, data: bytes) -> bytes:
        """Write the complete lines of `data`, and long lines in pieces; return what remains."""
        now = time.time_ns()
        position, size = 0, len(data)
        while position < size:
            window = position + LINE_BYTES
            end = data.rfind(b"\n", position, window) + 1
            if not end:
                if size - position < LINE_BYTES:
                    break
                end = _character_boundary(data, position, window)
            self._append(stream, data[position:end], now)
            position = end
        return data[position:]

    def finish(self, stream: str, rest: bytes) -> None:
        """Write what remained without a newline when the stream ended."""
        if rest:
            self._append(stream, rest, time.time_ns())

    def truncate(self, size: int) -> None:
        """Take back everything after `size`: it will be written again."""
        if self._fd >= 0 and size < self.size:
            os.ftruncate(self._fd, size)
            self.size = size

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        for descriptor in (self._fd, self._compressor):
            if descriptor >= 0:
                os.close(descriptor)
        self._fd = self._compressor = -1

    def _append(self, stream: str, block: bytes, now: int) -> None:
        limit = self._options.max_size
        if limit < SMALL_FILE and block.count(b"\n") > 1:
            for line in _lines(block):
                self._append_entry(self._codec.encode(stream, line, now))
        else:
            self._append_entry(self._codec.encode(stream, block, now))

    def _append_entry(self, entry: bytes) -> None:
        try:
            if self.size + len(entry) > self._options.max_size and self.size > len(self._preamble):
                self._rotate()
            if self._fd < 0:
                self._fd, self.size = self._open()
            written = os.write(self._fd, entry)
            if written < len(entry):
                written += os.write(self._fd, entry[written:])
            if written < len(entry):
                raise OSError(28, "short write", str(self.path))  # ENOSPC
            self.size += len(entry)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        now = time.monotonic()
        if now > self._complain_again:
            log.warning("lines of %s are lost: %s", self.path, error.strerror)
            self._complain_again = now + QUIET
        if self._fd >= 0:
            os.ftruncate(self._fd, self.size)

    def _open(self) -> tuple[int, int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o640)
        try:
            os.fchmod(descriptor, 0o640)
            os.fchown(descriptor, -1, self._gid)
            size = os.fstat(descriptor).st_size
            whole = self._codec.whole(descriptor, size) if size else 0
            if whole < size:
                os.ftruncate(descriptor, whole)
            if not whole and self._preamble:
                os.write(descriptor, self._preamble)
                whole = len(self._preamble)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, whole

    def _rotate(self) -> None:
        if self._options.max_file == 1:
            os.ftruncate(self._fd, 0)
            self.size = 0
            if self._preamble:
                self.size = os.write(self._fd, self._preamble)
            return
        self._stop_compressor()
        name = str(self.path)
        for number in range(self._options.max_file - 1, 0, -1):
            _shift(name, number, last=number == self._options.max_file - 1)
        os.rename(name, name + ".1")
        os.close(self._fd)
        self._fd = -1
        self._fd, self.size = self._open()
        if self._options.compress:
            self._start_compressor()

    def _start_compressor(self) -> None:
        child = os.fork()
        if not child:
            _compress_and_exit(str(self.path), self._options.max_file, self._gid)
        try:
            self._compressor = os.pidfd_open(child)
        except OSError:
            self._compressor = -1

    def _stop_compressor(self) -> None:
        # It works on names that change now; what it has not finished is compressed next time.
        if self._compressor < 0:
            return
        try:
            signal.pidfd_send_signal(self._compressor, signal.SIGKILL)
            os.waitid(os.P_PIDFD, self._compressor, os.WEXITED)
        except (ProcessLookupError, ChildProcessError):
            pass  # it has ended, and has been collected
        os.close(self._compressor)
        self._compressor = -1


def _lines(block: bytes) -> list[bytes]:
    *lines, rest = block.split(b"\n")
    found = [line + b"\n" for line in lines]
    return [*found, rest] if rest else found


def _character_boundary(data: bytes, start: int, end: int) -> int:
    """Return `end`, or up to three bytes less so that no UTF-8 character is cut."""
    for back in range(4):
        at = end - back
        if at <= start or at >= len(data) or data[at] & 0xC0 != 0x80:
            return at if at > start else end
    return end


def _shift(name: str, number: int, *, last: bool) -> None:
    plain, packed = f"{name}.{number}", f"{name}.{number}.gz"
    has_plain = os.path.lexists(plain)
    if os.path.lexists(packed):
        if last or has_plain:  # both: a compressor was ended between its last two steps
            os.unlink(packed)
        else:
            os.rename(packed, f"{name}.{number + 1}.gz")
    if has_plain:
        if last:
            os.unlink(plain)
        else:
            os.rename(plain, f"{name}.{number + 1}")


def _compress_and_exit(name: str, count: int, gid: int) -> NoReturn:
    """Compress all rotated files, in a child that owns nothing but its time."""
    status = 1
    try:
        os.closerange(3, 1 << 20)  # streams and sockets of the parent must not be held open here
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.nice(10)
        for number in range(count - 1, 0, -1):
            if os.path.lexists(f"{name}.{number}"):
                _compress(f"{name}.{number}", gid)
        status = 0
    except OSError:
        pass  # the file stays as it is
    finally:
        os._exit(status)


def _compress(name: str, gid: int) -> None:
    import zlib  # only this child needs it

    temporary = f"{name}.gz.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(name, "rb") as source:
        about = os.fstat(source.fileno())
        if not stat.S_ISREG(about.st_mode):
            return
        with open(os.open(temporary, flags, 0o640), "wb") as target:
            os.fchown(target.fileno(), -1, gid)
            packer = zlib.compressobj(6, wbits=31)  # 31: with a gzip header
            while chunk := source.read(256 << 10):
                target.write(packer.compress(chunk))
            target.write(packer.flush())
            os.utime(target.fileno(), ns=(about.st_atime_ns, about.st_mtime_ns))
    os.rename(temporary, f"{name}.gz")
    os.unlink(name)
