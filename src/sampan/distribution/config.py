"""How registries are reached: what the administrator has set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sampan.http.dialing import Permit
from sampan.http.limits import ClientLimits
from sampan.http.proxies import Proxies


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """The settings of the registry client; see docs/reference/registries.md."""

    insecure: tuple[str, ...] = ()
    """Registries (`name`, `name:port`, a network as CIDR) that may have an untrusted
    certificate or speak plain HTTP. Loopback addresses always may."""
    hub_mirrors: tuple[str, ...] = ()
    """Base addresses of mirrors of Docker Hub, tried in this order."""
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Mirrors of other registries, by `host[:port]`."""
    certificates: tuple[Path, ...] = (Path("/etc/docker/certs.d"),)
    """Folders with a folder per `host[:port]`: *.crt to trust, *.cert and *.key to show."""
    max_attempts: int = 5
    backoff_seconds: float = 0.5  # before the second attempt; doubled each time
    longest_wait_seconds: float = 60.0  # that a server may ask us to wait before an attempt
    user_agent: str = "sampan"
    limits: ClientLimits = field(default_factory=ClientLimits)
    proxies: Proxies = field(default_factory=Proxies.from_environment)
    permit: Permit | None = None
    """Tells which addresses of which hosts may be asked; None: all."""
