"""The object storages that the registry knows, for tests: each is started when it is asked for.

with Storages() as storages:
    options = storages.place("s3")
    driver = open_objects("s3", options)
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

from sampan.registry.drivers.objects.driver import ObjectDriver
from tests import oss_double, stores, swift_cluster

# How a storage is started, and a new place in it made.
REMOTE: dict[str, Any] = {
    "s3": (stores.moto, stores.s3_bucket),
    "gcs": (stores.gcs, stores.gcs_bucket),
    "azure": (stores.azure, stores.azure_container),
    "swift": (swift_cluster.swift, swift_cluster.container),
    "oss": (oss_double.oss, lambda options: {**options, "rootdirectory": stores.fresh("root")}),
}


def keys(driver: ObjectDriver) -> list[str]:
    """Return all that is in the place of a driver, which may lie beside others in one bucket."""
    root = driver.key("")
    return [entry.key for entry in driver.bucket.list("") if entry.key.startswith(root)]


class Storages:
    """Starts storages, and ends them."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._options: dict[str, dict[str, Any]] = {}

    def options(self, kind: str) -> dict[str, Any]:
        """Return the options of a storage that runs."""
        if kind not in self._options:
            self._options[kind] = self._stack.enter_context(REMOTE[kind][0]())
        return self._options[kind]

    def place(self, kind: str) -> dict[str, Any]:
        """Return the options of a new, empty place in a storage."""
        made: dict[str, Any] = REMOTE[kind][1](self.options(kind))
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
