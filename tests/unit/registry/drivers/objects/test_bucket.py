"""What clients are told of a storage's failure has no addresses in it."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.registry.drivers.choice import open_objects
from sampan.registry.drivers.objects.bucket import batches, reason


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'Could not connect to the endpoint URL: "http://10.0.0.1:9000/b?list-type=2"',
            "Could not connect to the endpoint URL",
        ),
        (
            "HTTPConnectionPool(host='10.0.0.1', port=1): Max retries exceeded with url: /v1"
            " (Caused by NewConnectionError('<x at 0x1>: [Errno 111] Connection refused'))",
            "cannot be reached: NewConnectionError",
        ),
        (
            "('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))",
            "the connection broke: ConnectionResetError",
        ),
        ("ConnectionPool(host='x')", "cannot be reached: OSError"),
        ("Unauthorised. Check username/id and password\nmore", "Unauthorised. Check username/id"),
        ("GET https://h/b/o?alt=json: Service Unavailable", "GET Service Unavailable"),
    ],
)
def test_a_reason_is_one_line_without_addresses(said: str, told: str) -> None:
    assert reason(OSError(said)).startswith(told)
    assert "10.0.0.1" not in reason(OSError(said))


def test_keys_come_in_batches() -> None:
    assert list(batches("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(batches("", 2)) == []


AWAY: dict[str, dict[str, Any]] = {
    "s3": {"bucket": "images", "regionendpoint": "http://127.0.0.1:1", "accesskey": "a"}
    | {"secretkey": "b"},
    "azure": {"accountname": "a", "accountkey": "a2V5", "container": "c"}
    | {"serviceurl": "http://127.0.0.1:1/a"},
    "swift": {"username": "u", "password": "p", "container": "c"}
    | {"authurl": "http://127.0.0.1:1/v1.0"},
    "oss": {"accesskeyid": "i", "accesskeysecret": "s", "region": "r", "bucket": "images"}
    | {"endpoint": "http://127.0.0.1:1"},
}


@pytest.mark.parametrize("kind", AWAY)
def test_a_storage_that_is_away_says_no_address(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between tries
    driver = open_objects(kind, AWAY[kind])
    with pytest.raises(OSError, match=f"^{kind}: ") as caught:
        driver.check()
    driver.close()
    assert "127.0.0.1" not in str(caught.value)
