"""What a log driver is, and the options that every one understands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sampan.errors import InvalidArgument
from sampan.spec.booleans import parse_bool

LINE_BYTES = 16 << 10  # a longer line is stored in pieces (moby daemon/logger/copier.go)
DEFAULT_MAX_SIZE = 20_000_000  # Docker's default of the driver `local`; here of json-file too
DEFAULT_MAX_FILE = 5


@dataclass(slots=True)
class LogLine:
    """One entry: a line with its newline, or a piece of a long line without."""

    time: int  # nanoseconds since the epoch
    stream: str  # stdout or stderr
    line: bytes
    attributes: dict[str, str] = field(default_factory=dict)


class Codec(Protocol):
    """The file format of a driver. Writers encode whole blocks, readers decode what is there."""

    def preamble(self, attributes: Mapping[str, str]) -> bytes:
        """Return what each file begins with."""

    def encode(self, stream: str, block: bytes, time: int) -> bytes:
        """Return the entries of a block: complete lines, or one piece without a newline."""

    def decode(self, buffer: bytes) -> tuple[list[LogLine], int]:
        """Return the complete entries of `buffer`, and how many bytes they took.

        What is damaged is skipped.
        """

    def start(self, descriptor: int) -> int:
        """Read the preamble; return where the first entry begins."""

    def tail(self, descriptor: int, size: int, count: int) -> tuple[int, int]:
        """Return where to begin for the last `count` entries, and how many follow from there."""

    def whole(self, descriptor: int, size: int) -> int:
        """Return the size without an entry that a crash has cut."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How the files of one container are kept."""

    max_size: int = DEFAULT_MAX_SIZE  # bytes of one file
    max_file: int = DEFAULT_MAX_FILE
    compress: bool = False


_COMMON = {"env", "env-regex", "labels", "labels-regex", "tag", "max-size", "max-file", "compress"}
_BUILT_IN = {"mode", "max-buffer-size"}
_UNKNOWN = {
    "json-file": "unknown log opt '{}' for json-file log driver",
    "local": "unknown log opt '{}' for log driver local",
}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?", re.IGNORECASE | re.ASCII)


def validate_options(driver: str, options: Mapping[str, str]) -> LogOptions:
    """Return the options of `driver` as numbers; called when a container is created.

    Raises InvalidArgument, in Docker's words, for an unknown driver or option and for a bad value.
    Source: moby daemon/logger: factory.go, jsonfilelog/jsonfilelog.go, local/config.go. Unlike
    Docker's, our json-file rotates by default (5 files of 20 MB): a log must not fill the disk.
    """
    if driver == "none":
        return LogOptions()
    _validate_mode(options)
    if driver not in _UNKNOWN:
        raise InvalidArgument(f"logger: no log driver named '{driver}' is registered")
    for name in options:
        if name not in _COMMON and name not in _BUILT_IN:
            raise InvalidArgument(_UNKNOWN[driver].format(name))
    return _json_file(options) if driver == "json-file" else _local(options)


def _validate_mode(options: Mapping[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidArgument(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidArgument(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
            )
        try:
            _size(options["max-buffer-size"])
        except InvalidArgument as error:
            raise InvalidArgument(f"error parsing option max-buffer-size: {error}") from error


def _json_file(options: Mapping[str, str]) -> LogOptions:
    max_size = DEFAULT_MAX_SIZE
    # Docker keeps one file when only the size is given.
    max_file = 1 if "max-size" in options else DEFAULT_MAX_FILE
    if "max-size" in options:
        max_size = _size(options["max-size"])
        if max_size <= 0:
            raise InvalidArgument("max-size must be a positive number")
    if "max-file" in options:
        max_file = _integer(options["max-file"])
        if max_file < 1:
            raise InvalidArgument("max-file cannot be less than 1")
    compress = _boolean(options["compress"]) if "compress" in options else False
    if compress and max_file == 1:
        raise InvalidArgument(
            "compress cannot be true when max-file is less than 2 or max-size is not set"
        )
    return LogOptions(max_size, max_file, compress)


def _local(options: Mapping[str, str]) -> LogOptions:
    max_size, max_file, compress = DEFAULT_MAX_SIZE, DEFAULT_MAX_FILE, True
    parsed: Any
    try:
        name = "value for max-size"
        if (parsed := options.get("max-size")) is not None:
            max_size = _size(parsed)
        name = "value for max-file"
        if (parsed := options.get("max-file")) is not None:
            max_file = _integer(parsed)
        name = ""
        if (parsed := options.get("compress")) is not None:
            compress = _boolean(parsed)
    except InvalidArgument as error:
        if name:
            raise InvalidArgument(f"invalid {name}: {parsed}: {error}") from error
        raise InvalidArgument(f"invalid boolean value for compress: {error}") from error
    if max_file < 0:
        raise InvalidArgument("max-file must not be negative")
    if compress and max_file <= 1:
        raise InvalidArgument("compression cannot be enabled when max file count is 1")
    return LogOptions(max_size or DEFAULT_MAX_SIZE, max(max_file, 1), compress)


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if not found:
        raise InvalidArgument(f"invalid size: '{text}'")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise InvalidArgument(f'strconv.Atoi: parsing "{text}": invalid syntax')
    if len(text) > 18:
        raise InvalidArgument(f'strconv.Atoi: parsing "{text}": value out of range')
    return int(text)


def _boolean(text: str) -> bool:
    try:
        return parse_bool(text)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
