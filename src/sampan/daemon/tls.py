"""TLS for API clients: certificates are read as root, before privileges are given up."""

from __future__ import annotations

import ssl

from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.flags import UsageError


def server_context(config: Config) -> ssl.SSLContext | None:
    """Return the context for TCP listeners, None without TLS; raises UsageError."""
    if not config.wants_tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config["tlscert"], config["tlskey"])
        if config.verifies_clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(config["tlscacert"])
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"invalid TLS configuration: {error}") from error
    return context
