"""Addresses of Amazon's CloudFront before a bucket; who is inside of Amazon goes to S3 itself.

Source: distribution registry/storage/driver/middleware/cloudfront, 2.8.3 and 3.1.1.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sampan.errors import InvalidArgument
from sampan.registry.configuration.nodes import seconds
from sampan.registry.drivers.objects.options import Options
from sampan.registry.redirects.addresses import Inner

log = logging.getLogger(__name__)
RANGES = "https://ip-ranges.amazonaws.com/ip-ranges.json"
RANGES_LIMIT = 16 << 20  # bytes; it has some two megabytes
SECONDS = 10.0  # to fetch it
FILTERS = ("", "none", "aws", "awsregion")


class CloudFront:
    """Signs addresses with the key of a distribution, by a canned policy."""

    def __init__(self, options: Options, key: Callable[[str], str]) -> None:
        """`key` returns the key in the bucket of a file."""
        from botocore.signers import CloudFrontSigner  # it comes with the driver s3

        base = options.text("baseurl", needed=True)
        self._base = (base if "://" in base else f"https://{base}").rstrip("/") + "/"
        private = _private_key(options)
        self._signer = CloudFrontSigner(
            options.text("keypairid", needed=True),
            # CloudFront takes no other hash.
            lambda text: private.sign(text, PKCS1v15(), SHA1()),  # noqa: S303
        )
        self._duration = _duration(options, "duration", "20m")
        self._key = key
        filtered = options.word("ipfilteredby", FILTERS, "none")
        self._inside = AwsNetworks(options) if filtered.startswith("aws") else None

    def url(self, path: str, client: str, inner: Inner) -> str:
        if self._inside is not None and self._inside.contains(client):
            return inner()
        until = datetime.fromtimestamp(time.time() + self._duration, UTC)
        found: str = self._signer.generate_presigned_url(
            self._base + self._key(path), date_less_than=until
        )
        return found

    def close(self) -> None:
        if self._inside is not None:
            self._inside.close()


def _private_key(options: Options) -> RSAPrivateKey:
    path = options.text("privatekey", needed=True)
    try:
        found = load_pem_private_key(Path(path).read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidArgument(f"{options.place}.privatekey: {error}") from error
    if not isinstance(found, RSAPrivateKey):
        raise InvalidArgument(f"{options.place}.privatekey: must be an RSA key")
    return found


def _duration(options: Options, name: str, default: str) -> float:
    try:
        return seconds(options.text(name, default))
    except ValueError as error:
        raise InvalidArgument(f"{options.place}.{name}: {error}") from error


class AwsNetworks:
    """Amazon's networks, as it publishes them; fetched anew from time to time."""

    def __init__(self, options: Options) -> None:
        self._url = options.text("iprangesurl", RANGES)
        if not self._url.startswith(("http://", "https://")):
            raise InvalidArgument(f"{options.place}.iprangesurl: must be http or https")
        regions = [name.strip().lower() for name in options.text("awsregion").split(",")]
        self._regions = {name for name in regions if name}
        if options.text("ipfilteredby") == "awsregion" and not self._regions:
            raise InvalidArgument(f"{options.place}.awsregion: is required")
        often = options.text("updatefrenquency", "12h")  # as docker-registry once wrote it
        self._interval = max(_duration(options, "updatefrequency", often), 1.0)
        self._by_region = options.text("ipfilteredby") == "awsregion"
        self._networks: Sequence[IPv4Network | IPv6Network] = ()
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None  # it begins with the first question

    def contains(self, client: str) -> bool:
        """Tell whether an address is Amazon's. Nobody's is before the list has come."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="aws", daemon=True)
                self._thread.start()
        try:
            address = ip_address(client)
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def _follow(self) -> None:
        while True:
            try:
                self._networks = self._fetch()
            except (OSError, ValueError, TypeError, KeyError) as error:
                log.warning("the networks of Amazon are not known: %s: %s", self._url, error)
            if self._ends.wait(self._interval):
                return

    def _fetch(self) -> list[IPv4Network | IPv6Network]:
        with urllib.request.urlopen(self._url, timeout=SECONDS) as answer:  # noqa: S310 http only
            told: Any = json.loads(answer.read(RANGES_LIMIT))
        listed = [(item["ip_prefix"], item["region"]) for item in told["prefixes"]]
        listed += [(item["ipv6_prefix"], item["region"]) for item in told.get("ipv6_prefixes", [])]
        return [
            ip_network(network, strict=False)
            for network, region in listed
            if not self._by_region or region.lower() in self._regions
        ]

    def close(self) -> None:
        self._ends.set()
        if self._thread is not None:
            self._thread.join(SECONDS)
