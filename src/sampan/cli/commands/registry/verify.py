"""Say what is wrong with the configuration of a registry."""

from __future__ import annotations

from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[CONFIG]"
OPERANDS = (0, 1)
LONG = """Unlike `serve`, which warns about them, this also refuses keys that nobody knows. The
status is 1 if anything is wrong."""


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    become("verify", *operands)
