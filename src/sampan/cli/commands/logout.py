"""Forget the login at a registry."""

from __future__ import annotations

from sampan.cli.logins.credentials import erase, find, hostname
from sampan.cli.logins.registry_auth import HUB_KEY
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[SERVER]"
OPERANDS = (0, 1)
LONG = "Without a server it is Docker Hub."


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    server = operands[0] if operands else ""
    name, keys = HUB_KEY, [HUB_KEY]
    if server:
        name = hostname(server)
        # Old versions kept logins under these names too.
        keys = list(dict.fromkeys((server, name, f"http://{name}", f"https://{name}")))
    else:
        _erase_tokens(cli)
    cli.out.line("Removing login credentials for", name)
    cli.out.flush()
    errors: dict[str, str] = {}
    for key in keys:
        try:
            erase(cli, key)
        except SampanError as error:
            errors[key] = str(error)
    if len(errors) == len(keys):
        cli.err.line("WARNING: could not erase credentials:")
        for key, message in errors.items():
            cli.err.line(f"{key}: {message}")
    return 0


def _erase_tokens(cli: Invocation) -> None:
    """Forget what docker's login through a web browser keeps beside the login itself."""
    try:
        for name in ("access-token", "refresh-token"):
            if find(cli, HUB_KEY + name).document():
                erase(cli, HUB_KEY + name)
    except SampanError as error:
        cli.err.line("WARNING:", error)
        cli.err.flush()
