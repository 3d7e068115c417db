"""Serve a registry of images."""

from __future__ import annotations

from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[CONFIG]"
OPERANDS = (0, 1)
LONG = """CONFIG is a configuration file of docker-registry; without it, the one that
$REGISTRY_CONFIGURATION_PATH names. The registry ends at SIGTERM and reads its certificates anew at
SIGHUP."""


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    become("serve", *operands)
