"""RUN --device=…: a device by name, and whether it has to be there.

Source: buildkit frontend/dockerfile/instructions/commands_rundevice.go (rules and messages).
"""

from __future__ import annotations

import csv

from sampan.build.instructions.model import Device
from sampan.build.instructions.words import boolean
from sampan.errors import InvalidArgument


def read_device(text: str) -> Device:
    """Return what one --device says. Raises InvalidArgument."""
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InvalidArgument(f"failed to parse csv devices: {error}") from error
    name, required = "", False
    for field in fields:
        key, equals, value = field.partition("=")
        key = key.lower()
        if key == "required":
            required = boolean(key, value) if equals else True
        elif key == "name" and equals:
            if name:
                raise InvalidArgument(f"device name already set to {name}")
            name = value
        elif not name:  # vendor.com/class=name, or a class
            name = field
        elif equals:
            raise InvalidArgument(f"unexpected key '{key}' in '{field}'")
        else:
            raise InvalidArgument(f"invalid field '{field}' must be a key=value pair")
    if not name:
        raise InvalidArgument("a device has a name")
    return Device(name=name, required=required)
