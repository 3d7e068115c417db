"""Detach keys: the sequence of keys that ends an attach and leaves the process alone.

Source: moby/term ascii.go and proxy.go.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument

DEFAULT_KEYS = b"\x10\x11"  # ctrl-p, ctrl-q
_NAMED = {f"ctrl-{chr(code)}": code - 96 for code in range(ord("a"), ord("z") + 1)} | {
    "ctrl-@": 0,
    "ctrl-[": 27,
    "ctrl-\\": 28,
    "ctrl-]": 29,
    "ctrl-^": 30,
    "ctrl-_": 31,
    "DEL": 127,
}


def parse_keys(text: str) -> bytes:
    """Return the bytes of "ctrl-p,ctrl-q"; "" means the default; raises InvalidArgument."""
    if not text:
        return DEFAULT_KEYS
    keys = bytearray()
    for name in text.split(","):
        if len(name) == 1 and name.isascii():
            keys.append(ord(name))
        elif name in _NAMED:
            keys.append(_NAMED[name])
        else:
            raise InvalidArgument(f"Invalid detach keys ({text}) provided")
    return bytes(keys)


class Escape:
    """Looks for the keys in what the user types, across the borders of reads."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0  # so many of the first keys were seen and are kept back

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what is to be passed on, and whether the whole sequence was typed."""
        if not self._held and self._keys[0] not in data:
            return data, False
        passed = bytearray()
        for position, byte in enumerate(data):
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    self._held = 0
                    return bytes(passed), True
                continue
            passed += self._keys[: self._held]
            self._held = 0
            if byte == self._keys[0]:
                self._held = 1
                if len(self._keys) == 1:
                    return bytes(passed), True
                continue
            passed.append(byte)
            if self._keys[0] not in data[position + 1 :]:
                return bytes(passed) + data[position + 1 :], False
        return bytes(passed), False
