"""Tell how much of each quota of a registry is in use."""

from __future__ import annotations

from sampan.cli.registry_program import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "[CONFIG]"
OPERANDS = (0, 1)
LONG = """The quotas are those of `quotas` in the configuration."""


class Options:
    """No flags."""


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    become("quotas", *operands)
