"""Which drivers there are, and what each needs. Their libraries are imported when one is opened."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
# botocore takes Python's own SSLContext from there; it brings OpenSSL a second time, and 10 MB.
UNNEEDED = "urllib3.contrib.pyopenssl"


def open_objects(kind: str, given: Mapping[str, Any]) -> ObjectDriver:
    """Open the driver of an object storage.

    Raises InvalidArgument for options that are wrong, and for libraries that are missing.
    """
    name = OBJECTS[kind]
    try:
        with _without(UNNEEDED):
            module = importlib.import_module(f"sampan.registry.drivers.objects.{name}")
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            f"storage.{kind}: {error.name} is missing: install sampan[registry-{name}]"
        ) from error
    options = Options(given, f"storage.{kind}")
    return ObjectDriver(module.bucket(options), module.root(options))


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let imports go on as if a module were not installed, unless it is there already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
