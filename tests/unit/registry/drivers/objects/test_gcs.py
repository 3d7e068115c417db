"""Addresses of Google's storage are signed with the key of the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sampan.registry.drivers.choice import open_objects


def test_a_key_signs_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)  # of tests beside this one
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "client_email": "me@test",
        "token_uri": "https://oauth.test/token",
        "private_key": key.decode(),
    }
    (tmp_path / "key.json").write_text(json.dumps(account))
    for given in ({"keyfile": str(tmp_path / "key.json")}, {"credentials": account}):
        driver = open_objects("gcs", {"bucket": "images", "rootdirectory": "/r", **given})
        found = urlsplit(driver.url("a/b", "GET"))
        driver.close()
        assert (found.hostname, found.path) == ("storage.googleapis.com", "/images/r/a/b")
        query = parse_qs(found.query)
        assert query["X-Goog-Expires"] == ["1200"]
        assert query["X-Goog-Credential"][0].startswith("me@test/")
        assert len(query["X-Goog-Signature"][0]) == 512
