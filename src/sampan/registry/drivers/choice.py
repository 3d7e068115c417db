"""Which drivers there are, and what each needs. Their libraries are imported when one is opened."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from sampan.errors import InvalidArgument
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.drivers.objects.options import Options

# How the configuration calls them, and the module of each.
OBJECTS = {
    "s3": "s3",
    "s3aws": "s3",
    "azure": "azure",
    "gcs": "gcs",
    "swift": "swift",
    "oss": "oss",
}


def open_objects(kind: str, given: Mapping[str, Any]) -> ObjectDriver:
    """Open the driver of an object storage.

    Raises InvalidArgument for options that are wrong, and for libraries that are missing.
    """
    name = OBJECTS[kind]
    try:
        module = importlib.import_module(f"sampan.registry.drivers.objects.{name}")
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            f"storage.{kind}: {error.name} is missing: install sampan[registry-{name}]"
        ) from error
    options = Options(given, f"storage.{kind}")
    return ObjectDriver(module.bucket(options), module.root(options))
