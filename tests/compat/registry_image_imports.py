"""Run in the image of the registry: import all of our modules, and open every storage."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import sampan.registry
import sampan.registryd
from sampan.registry.drivers.choice import open_objects
from sampan.registry.drivers.filesystem import FilesystemDriver
from sampan.registry.drivers.inmemory import InMemoryDriver

KEY = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)
ACCOUNT = {
    "type": "service_account",
    "client_email": "registry@example.com",
    "token_uri": "https://example.com/token",
    "private_key": KEY.decode(),
}
NAMED = {"accountname": "a", "container": "c"}
STORAGES: list[tuple[str, dict[str, Any]]] = [
    ("s3", {"region": "eu-central-1", "bucket": "b"}),
    ("s3", {"regionendpoint": "http://127.0.0.1:9", "bucket": "b", "v4auth": False}),
    ("azure", {**NAMED, "accountkey": "a2V5"}),
    ("azure", {**NAMED, "credentials": {"type": "default_credentials"}}),
    ("gcs", {"bucket": "b", "credentials": ACCOUNT}),
    ("swift", {"authurl": "http://x/v3", "username": "u", "password": "p", "container": "c"}),
    ("oss", {"region": "r", "bucket": "images", "accesskeyid": "i", "accesskeysecret": "s"}),
]


def main() -> None:
    """Print the number of modules, and the kinds of the storages."""
    names = []
    for package in (sampan.registry, sampan.registryd):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
            names.append(found.name)
    for kind, options in STORAGES:
        open_objects(kind, options)
    FilesystemDriver("/tmp/registry")
    InMemoryDriver()
    print(len(names), *dict(STORAGES))


if __name__ == "__main__":
    main()
