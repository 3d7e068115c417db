"""Which proxy stands between us and a host: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

Source: golang.org/x/net/http/httpproxy; the capital names win over the small ones there.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of the environment; empty strings where there is none."""

    http: str = ""
    https: str = ""
    exceptions: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or their small spellings."""

        def value(name: str) -> str:
            return environment.get(name, "") or environment.get(name.lower(), "")

        listed = (part.strip().lower() for part in value("NO_PROXY").split(","))
        return cls(value("HTTP_PROXY"), value("HTTPS_PROXY"), tuple(filter(None, listed)))

    def of(self, scheme: str, host: str, port: int) -> str:
        """Return the address of the proxy for requests to `host`; "" for none."""
        proxy = self.https if scheme == "https" else self.http
        if not proxy or self._is_excepted(host.lower().rstrip("."), port):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"

    def _is_excepted(self, host: str, port: int) -> bool:
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_matches(rule, host, address, port) for rule in self.exceptions)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _matches(rule: str, host: str, address: _Address | None, port: int) -> bool:
    if rule == "*":
        return True
    if address is not None and "/" in rule:
        try:
            return address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    name, colon, digits = rule.rpartition(":")
    if colon and digits.isdecimal() and not name.endswith(":"):
        if int(digits) != port:
            return False
        rule = name
    if (listed := _address(rule)) is not None or address is not None:
        return listed == address
    if rule.startswith("*."):
        rule = rule[1:]
    if rule.startswith("."):
        return host.endswith(rule)
    return host == rule or host.endswith(f".{rule}")
