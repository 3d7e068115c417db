"""The object storages that the registry knows, for tests: each is started when it is asked for.

with Storages() as storages:
    options = storages.place("s3")
    driver = open_objects("s3", options)
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import urllib3
from botocore.loaders import JSONFileLoader
from google.cloud.storage.retry import DEFAULT_RETRY

from sampan.registry.drivers.objects import azure, gcs, gcs_media, oss, s3, swift
from sampan.registry.drivers.objects.driver import ObjectDriver
from tests import oss_double, stores, swift_cluster
from tests.flaky import Way
from tests.session import PATIENCE

# Its descriptions of services are read once, not for each client.
_read = functools.cache(JSONFileLoader().load_file)
JSONFileLoader.load_file = lambda self, path: _read(path)

# How a storage is started, and a new place in it made.
REMOTE: dict[str, Any] = {
    "s3": (stores.moto, stores.s3_bucket),
    "gcs": (stores.gcs, stores.gcs_bucket),
    "azure": (stores.azure, stores.azure_container),
    "swift": (swift_cluster.swift, swift_cluster.container),
    "oss": (oss_double.oss, lambda options: {**options, "rootdirectory": stores.fresh("root")}),
}


MB = 1 << 20
CHUNKS = {"s3": 5 * MB, "gcs": MB, "swift": MB, "oss": 5 * MB}
ADDRESSES = {"s3": "regionendpoint", "azure": "serviceurl", "swift": "authurl", "oss": "endpoint"}


def impatience(monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    """Give a storage a second where it has half a minute, and ask it again at once.

    While the way there is good it has its time: it may be slow on a busy machine.
    """
    send: Callable[..., Any] = urllib3.HTTPConnectionPool.urlopen

    def timed(pool: urllib3.HTTPConnectionPool, *given: Any, **more: Any) -> Any:
        if pool.port == way.port and way.mood.kind == "good":
            more["timeout"] = PATIENCE
        return send(pool, *given, **more)

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "urlopen", timed)
    for name in ("CONNECT_SECONDS", "READ_SECONDS"):
        monkeypatch.setattr(s3, name, 1)
    monkeypatch.setattr(s3, "TRIES", 2)
    for module in (azure, swift):
        monkeypatch.setattr(module, "SECONDS", 1)
        monkeypatch.setattr(module, "TRIES", 1)
        monkeypatch.setattr(module, "BACKOFF", 0)
    monkeypatch.setattr(gcs, "SECONDS", 1.0)
    soon = DEFAULT_RETRY.with_delay(initial=0.05)
    monkeypatch.setattr(gcs_media, "DEFAULT_RETRY", soon)
    monkeypatch.setattr(gcs, "_CALL", {"timeout": 1.0, "retry": soon.with_timeout(1.0)})
    monkeypatch.setattr(oss, "CONNECT_SECONDS", 1)


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

    def port(self, kind: str) -> int:
        """Return where a storage listens."""
        options = self.options(kind)
        address = options[ADDRESSES[kind]] if kind in ADDRESSES else os.environ[stores.EMULATOR]
        return int(urlsplit(address).port or 0)

    def place_by(self, kind: str, port: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """Return the options of a new place that is reached by another port, in small parts."""
        options = {**self.place(kind), "chunksize": CHUNKS.get(kind, 0)}
        if kind == "azure":
            del options["chunksize"]
        if kind in ADDRESSES:
            direct = urlsplit(options[ADDRESSES[kind]])
            options[ADDRESSES[kind]] = direct._replace(netloc=f"127.0.0.1:{port}").geturl()
        else:
            monkeypatch.setenv(stores.EMULATOR, f"http://127.0.0.1:{port}")
        return options

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
