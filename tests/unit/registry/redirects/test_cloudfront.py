"""Addresses of CloudFront are signed; who is inside of Amazon's network goes to S3 itself."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1

from sampan.errors import InvalidArgument
from sampan.registry.drivers.objects.options import Options
from sampan.registry.redirects.cloudfront import CloudFront
from tests.session import eventually

RANGES = {
    "prefixes": [
        {"ip_prefix": "3.5.140.0/22", "region": "ap-northeast-2"},
        {"ip_prefix": "52.94.0.0/16", "region": "eu-central-1"},
    ],
    "ipv6_prefixes": [{"ipv6_prefix": "2600:1f00::/24", "region": "eu-central-1"}],
}


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@pytest.fixture
def given(key: RSAPrivateKey, tmp_path: Path) -> dict[str, Any]:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (tmp_path / "key.pem").write_bytes(pem)
    path = str(tmp_path / "key.pem")
    return {"baseurl": "cdn.test/x", "privatekey": path, "keypairid": "K1", "duration": "5m"}


def made(given: dict[str, Any], **more: Any) -> CloudFront:
    return CloudFront(Options({**given, **more}, "here"), lambda path: f"root/{path}")


def test_an_address_is_signed_by_the_key(given: dict[str, Any], key: RSAPrivateKey) -> None:
    found = made(given).url("a/b", "", lambda: "s3")
    address, _, query = found.partition("?")
    assert address == "https://cdn.test/x/root/a/b"
    told = parse_qs(query)
    assert told["Key-Pair-Id"] == ["K1"]
    condition = {"DateLessThan": {"AWS:EpochTime": int(told["Expires"][0])}}
    policy = {"Statement": [{"Resource": address, "Condition": condition}]}
    signature = told["Signature"][0].translate(str.maketrans("-_~", "+=/"))
    text = json.dumps(policy, separators=(",", ":")).encode()
    key.public_key().verify(base64.b64decode(signature), text, PKCS1v15(), SHA1())


@pytest.fixture
def ranges() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

        def do_GET(self) -> None:
            body = json.dumps(RANGES).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("more", "inside", "outside"),
    [
        ({"ipfilteredby": "aws"}, ("52.94.1.1", "3.5.140.9", "2600:1f00::1"), ("8.8.8.8", "x")),
        (
            {"ipfilteredby": "awsregion", "awsregion": "EU-central-1, x"},
            ("52.94.1.1", "2600:1f00::1"),
            ("3.5.140.9", ""),
        ),
    ],
)
def test_who_is_inside_goes_to_the_bucket(
    given: dict[str, Any],
    ranges: str,
    more: dict[str, Any],
    inside: tuple[str, ...],
    outside: tuple[str, ...],
) -> None:
    found = made(given, **more, iprangesurl=ranges)
    try:
        eventually(lambda: found.url("a", inside[0], lambda: "s3") == "s3")
        assert [found.url("a", client, lambda: "s3") for client in inside] == ["s3"] * len(inside)
        for client in outside:
            assert urlsplit(found.url("a", client, lambda: "s3")).hostname == "cdn.test"
    finally:
        found.close()


def test_without_the_list_everybody_is_outside(
    given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    found = made(given, ipfilteredby="aws", iprangesurl="http://127.0.0.1:1/")
    assert found.url("a", "52.94.1.1", lambda: "s3") != "s3"
    eventually(lambda: "are not known" in caplog.text)
    found.close()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"baseurl": ""}, "here.baseurl: is required"),
        ({"privatekey": "/nowhere"}, "here.privatekey: "),
        ({"privatekey": __file__}, "here.privatekey: "),
        ({"keypairid": None}, "here.keypairid: is required"),
        ({"duration": "soon"}, "here.duration: "),
        ({"ipfilteredby": "luck"}, "here.ipfilteredby: must be one of"),
        ({"ipfilteredby": "awsregion"}, "here.awsregion: is required"),
        ({"ipfilteredby": "aws", "iprangesurl": "file:///etc/passwd"}, "must be http"),
        ({"ipfilteredby": "aws", "updatefrenquency": "x"}, "here.updatefrequency: "),
    ],
)
def test_wrong_options_are_told(given: dict[str, Any], more: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        made(given, **more)
