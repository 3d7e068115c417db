"""Logging in to Swift: its own way (v1), or Keystone's of version 2 or 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from keystoneauth1.exceptions import ClientException as KeystoneError
from keystoneauth1.identity import v2, v3
from keystoneauth1.session import Session
from swiftclient import Connection

from sampan.errors import InvalidArgument
from sampan.registry.drivers.objects.options import Options

FAILURES = (KeystoneError,)


@dataclass(frozen=True)
class Login:
    """Who we are, and where that is told."""

    url: str
    version: int
    user: str
    password: str
    tenant: str = ""
    tenant_id: str = ""
    domain: str = ""
    domain_id: str = ""
    tenant_domain: str = ""
    tenant_domain_id: str = ""
    trust_id: str = ""
    region: str = ""
    endpoint_type: str = "public"
    insecure: bool = False

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read what a configuration says; raise InvalidArgument."""
        url = options.text("authurl", needed=True)
        return cls(
            url,
            options.number("authversion", 0, 0, 3) or _guess(url, options.place),
            options.text("username", needed=True),
            options.text("password", needed=True),
            tenant=options.text("tenant"),
            tenant_id=options.text("tenantid"),
            domain=options.text("domain"),
            domain_id=options.text("domainid"),
            tenant_domain=options.text("tenantdomain"),
            tenant_domain_id=options.text("tenantdomainid"),
            trust_id=options.text("trustid"),
            region=options.text("region"),
            endpoint_type=options.word("endpointtype", ("public", "internal", "admin"), "public"),
            insecure=options.flag("insecureskipverify", False),
        )

    def connect(self, **more: Any) -> Connection:
        """Return a connection that logs in when it is first used."""
        where = {"region_name": self.region or None, "endpoint_type": self.endpoint_type}
        if self.version == 1:
            return Connection(
                *(self.url, self.user, self.password),
                auth_version="1",
                os_options=where,
                insecure=self.insecure,
                **more,
            )
        session = Session(auth=self._plugin(), verify=not self.insecure, timeout=more["timeout"])
        return Connection(session=session, os_options=where, insecure=self.insecure, **more)

    def _plugin(self) -> Any:
        if self.version == 2:
            return v2.Password(
                *(self.url, self.user, self.password),
                tenant_id=self.tenant_id or None,
                tenant_name=self.tenant or None,
                trust_id=self.trust_id or None,
            )
        scoped = not self.trust_id  # a trust says itself what it is for
        return v3.Password(
            *(self.url, self.password),
            username=self.user,
            user_domain_name=self.domain or None,
            user_domain_id=self.domain_id or (None if self.domain else "default"),
            project_id=(self.tenant_id or None) if scoped else None,
            project_name=(self.tenant or None) if scoped else None,
            project_domain_name=(self.tenant_domain or self.domain or None) if scoped else None,
            project_domain_id=self._project_domain_id() if scoped else None,
            trust_id=self.trust_id or None,
        )

    def _project_domain_id(self) -> str | None:
        if self.tenant_domain_id or self.tenant_domain:
            return self.tenant_domain_id or None
        return self.domain_id or (None if self.domain else "default")


def _guess(url: str, place: str) -> int:
    for version in (3, 2, 1):
        if f"v{version}" in url:
            return version
    raise InvalidArgument(f"{place}.authversion: cannot be told from {url}: must be 1, 2 or 3")
