"""TLS of the registry: certificates from files, or from an ACME server."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.errors import InvalidArgument
from sampan.http.tls import Clients
from sampan.registry.configuration import ciphers
from sampan.registry.configuration.document import Checked
from sampan.registry.serving.server import Server
from sampan.registry.serving.servers import needs_own
from sampan.registryd import settings

if TYPE_CHECKING:
    from sampan.registryd.acme.renewal import Renewal
    from sampan.registryd.certificates import Certificates

log = logging.getLogger(__name__)
LOOK_SECONDS = 60.0  # between looks at the files of certificates
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
REQUIRED = "require-and-verify-client-cert"
CLIENTS = {
    "request-client-cert": Clients.REQUEST,
    "require-any-client-cert": Clients.ANY,
    "verify-client-cert-if-given": Clients.IF_GIVEN,
    REQUIRED: Clients.VERIFY,
}


class Tls:
    """What a server needs for TLS, and how that is kept new. `certificates` is None without."""

    def __init__(self) -> None:
        self.certificates: Certificates | None = None
        self._renewal: Renewal | None = None

    async def prepare(
        self, checked: Checked, stack: AsyncExitStack, listener: socket.socket
    ) -> None:
        """Read certificates; where they come from an ACME server, wait for the first."""
        paths = settings.certificate_paths(checked)
        if checked.get("http.tls.letsencrypt.hosts"):
            self._renewal = await stack.enter_async_context(_renewal(checked, listener))
            await self._renewal.first()
            path = self._renewal.folder.certificate_path
            paths = path, path
        if paths is None:
            return
        from sampan.registryd.certificates import Certificates, Terms  # cryptography: 40 ms

        authorities = checked.get("http.tls.clientcas", [])
        kind = checked.get("http.tls.clientauth") or REQUIRED
        clients = CLIENTS[kind] if authorities else Clients.NOBODY
        terms = Terms(clients, *_versions(checked))
        self.certificates = Certificates(*paths, authorities, terms)
        if needs_own(self.certificates.tls):
            asking = "ciphersuites" if terms.ciphers else f"clientauth: {kind}"
            log.info("HTTP/1.1 only, without HTTP/2: http.tls.%s asks for it", asking)

    def http2(self, checked: Checked) -> bool:
        """With TLS HTTP/2 is offered unless it is disabled; without, where h2c is enabled."""
        if self.certificates:
            return not checked.get("http.http2.disabled", False)
        return bool(checked.get("http.h2c.enabled", False))

    def read_anew(self, server: Server) -> None:
        """Serve new clients with what is in the files now."""
        if self.certificates is None:
            log.info("there are no certificates to read anew; all else needs a restart")
            return
        try:
            server.renew(self.certificates.read())
        except InvalidArgument as error:
            log.error("certificates are not read anew: %s", error)
        else:
            log.info("certificates were read anew")

    def hang_up(self, server: Server) -> None:
        """Do what SIGHUP asks for: read files anew, and look whether it is time for a new one."""
        self.read_anew(server)
        if self._renewal:
            self._renewal.look_now()

    def works(self, server: Server) -> list[Coroutine[Any, Any, None]]:
        """Return what goes on beside requests."""
        found = [self._look(server)] if self.certificates else []
        if self._renewal:
            found.append(self._renewal.keep(server, lambda: self.read_anew(server)))
        return found

    async def _look(self, server: Server) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self.certificates and self.certificates.changed():
                self.read_anew(server)


def _versions(checked: Checked) -> tuple[str, tuple[str, ...]]:
    """Return the first version of TLS that is spoken, and the cipher suites up to TLS 1.2.

    None of the latter are those that everybody speaks.
    """
    minimum = checked.get("http.tls.minimumtls") or "tls1.2"
    listed = checked.get("http.tls.ciphersuites") or []
    found = ciphers.chosen(listed)
    if minimum == "tls1.3" or (listed and not found):
        return "tls1.3", ()
    if not ciphers.are_of_old(found):
        minimum = "tls1.2"
    return minimum, () if ciphers.is_usual(listed) else found


def _renewal(checked: Checked, listener: socket.socket) -> Renewal:
    try:
        from sampan.registryd.acme.folder import Folder
        from sampan.registryd.acme.orders import Account
        from sampan.registryd.acme.renewal import Renewal
    except ImportError as error:
        raise InvalidArgument(
            f"http.tls.letsencrypt: {error.name} is missing:"
            " install sampan[registry,registry-letsencrypt]"
        ) from None
    place = "http.tls.letsencrypt"
    hosts = [str(host).lower() for host in checked.get(f"{place}.hosts")]
    account = Account(
        str(checked.get(f"{place}.directoryurl") or LETS_ENCRYPT),
        str(checked.get(f"{place}.email", "")),
    )
    folder = Folder(Path(checked.get(f"{place}.cachefile")), hosts)
    return Renewal(account, folder, hosts, listener)
