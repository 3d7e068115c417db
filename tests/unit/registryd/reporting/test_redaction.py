from __future__ import annotations

import pytest

from sampan.registryd.reporting.redaction import HIDDEN, redact, redact_all, request


@pytest.mark.parametrize(
    "text",
    [
        "https://user:s3cr3t@host/path failed",
        "postgresql://user:s3cr3t@host/db is away",
        "GET https://bucket/key?X-Amz-Signature=s3cr3t&X-Amz-Expires=1: 403",
        "GET /v2/x/blobs/uploads/1?_state=s3cr3t failed",
        "header Authorization: Bearer s3cr3t.s3cr3t was refused",
        "Basic s3cr3t== is no login",
        "{'password': 's3cr3t', 'user': 'x'}",
        'connection failed: password="s3cr3t with spaces" host=x',
        "connection failed: host=x password=s3cr3t port=1",
        "token eyJs3cr3t.eyJs3cr3t.s3cr3t is old",
        "AccountKey=s3cr3t;EndpointSuffix=x",
        "secret_access_key: no; accesskey=s3cr3t",
        "Cookie: s3cr3t",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    assert "s3cr3t" not in redact(text), redact(text)
    assert "s3cr3t" not in str(redact_all({"a": [text, {"b": text}]}))


@pytest.mark.parametrize(
    "text",
    [
        "blob sha256:aa of team/app is not whole",
        "connection to 127.0.0.1:5432 refused",
        "redis.addr: is 2.x's word for addrs",
        "GET /v2/team/app/tags/list: [Errno 28] No space left on device",
        "what is this? nobody knows",
    ],
)
def test_all_else_stays(text: str) -> None:
    assert redact(text) == text
    assert redact_all([text, 1, None, True]) == [text, 1, None, True]


def test_a_request_is_told_without_what_only_its_client_knows() -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "https",
        "http_version": "1.1",
        "path": "/v2/team/app/blobs/uploads/",
        "query_string": b"mount=sha256:aa&from=other&_state=s3cr3t&account=s3cr3t",
        "headers": [
            (b"host", b"registry.test"),
            (b"authorization", b"Basic s3cr3t"),
            (b"cookie", b"s3cr3t"),
            (b"x-registry-auth", b"s3cr3t"),
            (b"referer", b"https://s3cr3t"),
            (b"user-agent", b"docker/1"),
        ],
        "client": ("192.0.2.7", 1),
    }
    told = request(scope)
    assert told == {
        "clientIp": "192.0.2.7",
        "httpMethod": "POST",
        "httpVersion": "1.1",
        "url": "https://registry.test/v2/team/app/blobs/uploads/",
        "query": f"mount=sha256:aa&from=other&_state={HIDDEN}&account={HIDDEN}",
        "headers": {"host": "registry.test", "user-agent": "docker/1"},
    }
    assert request({**scope, "client": None, "query_string": b""})["clientIp"] == ""
