"""The flags before the command, and what they do to its invocation."""

from __future__ import annotations

import os

from sampan.cli.arguments.flags import flag
from sampan.cli.invocation import Exit, Invocation

LOG_LEVELS = ("panic", "fatal", "error", "warn", "warning", "info", "debug", "trace")


class GlobalOptions:
    """Flags before the command."""

    config: str = flag("", "Folder of the client's settings", default="")
    context: str = flag("c", "Context that names the daemon", default="")
    debug: bool = flag("D", "Print more about what happens")
    host: list[str] = flag("H", "Address of the daemon", kind="list")
    log_level: str = flag("l", "Least serious level that is logged", default="info")
    tls: bool = flag("", "Use TLS; implied by --tlsverify")
    tlscacert: str = flag("", "File of the certificates to trust", default="")
    tlscert: str = flag("", "File of the client's certificate", default="")
    tlskey: str = flag("", "File of the client's key", default="")
    tlsverify: bool = flag("", "Use TLS and verify the daemon")
    version: bool = flag("v", "Print the version and end")


def apply(invocation: Invocation, options: GlobalOptions) -> None:
    """Have the command use what was given. Raises Exit for what cannot be, alone or together."""
    if len(options.host) > 1:
        raise Exit(1, "specify only one -H")
    if options.host and options.context:
        raise Exit(1, "conflicting options: cannot specify both --host and --context")
    if options.log_level not in LOG_LEVELS:
        raise Exit(1, f"Unable to parse logging level: {options.log_level}")
    invocation.host = options.host[0] if options.host else ""
    invocation.context = options.context
    invocation.debug = options.debug
    invocation.folder = options.config
    if options.config:
        os.environ["DOCKER_CONFIG"] = options.config
    if options.tls or options.tlsverify:
        from sampan.client.endpoint import TLS, config_folder

        folder = os.environ.get("DOCKER_CERT_PATH") or config_folder(os.environ)

        def file(given: str, name: str) -> str:
            default = os.path.join(folder, name)
            return given or (default if os.path.exists(default) else "")

        invocation.tls = TLS(
            file(options.tlscacert, "ca.pem"),
            file(options.tlscert, "cert.pem"),
            file(options.tlskey, "key.pem"),
            options.tlsverify,
        )
