"""Debian's pebble: the ACME server that Let's Encrypt tests clients with.

with pebble(namespace, folder, port=443) as acme:
    settings = {"directoryurl": acme.directory}  # REQUESTS_CA_BUNDLE=acme.bundle
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.session import PATIENCE, eventually
from tests.wire import LOOPBACK, Site, within

ACME, MANAGEMENT, DNS, DNS_MANAGEMENT = 14000, 15000, 8053, 8055


@dataclass
class Pebble:
    """A running pebble."""

    directory: str
    bundle: Path  # whom its own TLS is trusted by
    management: Site

    @property
    def root(self) -> str:
        """The certificate of the authority that it signs with, as PEM."""
        return self.management.ask("GET", "/roots/0").body.decode()


@contextlib.contextmanager
def pebble(namespace: str, folder: Path, port: int) -> Iterator[Pebble]:
    """Run it where every name is 127.0.0.1; `port` is where it looks for proofs."""
    authority = trustme.CA()
    own = authority.issue_cert(LOOPBACK)
    bundle, chain, key = folder / "ca.pem", folder / "pebble.pem", folder / "pebble.key"
    authority.cert_pem.write_to_path(bundle)
    chain.write_bytes(b"".join(pem.bytes() for pem in own.cert_chain_pems))
    own.private_key_pem.write_to_path(key)
    settings = {
        "listenAddress": f"{LOOPBACK}:{ACME}",
        "managementListenAddress": f"{LOOPBACK}:{MANAGEMENT}",
        "certificate": str(chain),
        "privateKey": str(key),
        "httpPort": 5002,
        "tlsPort": port,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    context = ssl.create_default_context(cafile=bundle)
    management = Site(namespace, port=MANAGEMENT, context=context)
    names = [
        *("pebble-challtestsrv", "-defaultIPv4", LOOPBACK, "-defaultIPv6", ""),
        *("-dns01", f"{LOOPBACK}:{DNS}", "-management", f"{LOOPBACK}:{DNS_MANAGEMENT}"),
        *("-http01", "", "-https01", "", "-tlsalpn01", ""),
    ]
    server = [
        *("pebble", "-config", str(folder / "pebble.json")),
        *("-dnsserver", f"{LOOPBACK}:{DNS}"),
    ]
    environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1"}
    running: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "log").open("wb") as log, within(namespace):
            for command in (names, server):
                running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        eventually(lambda: _answers(management))
        yield Pebble(f"https://{LOOPBACK}:{ACME}/dir", bundle, management)
    finally:
        for process in running:
            process.terminate()
            process.wait(PATIENCE)


def _answers(site: Site) -> bool:
    try:
        return site.ask("GET", "/roots/0").status == 200
    except OSError:
        return False
