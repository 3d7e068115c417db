"""Attach to the input and output of a running container."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.containers.attachment import Attachment, check_terminal
from sampan.cli.display.terminal import detach_keys
from sampan.cli.invocation import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER"
ALIASES = "container attach, attach"
OPERANDS = (1, 1)


class Options:
    detach_keys: str = flag("", "Keys that leave the container running", default="")
    no_stdin: bool = flag("", "Do not attach STDIN")
    sig_proxy: bool = flag("", "Pass signals on to the process", default=True)


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    keys = options.detach_keys or cli.setting("detachKeys")
    detach_keys(keys)
    document = cli.client.containers.inspect(operands[0])
    state = document["State"]
    if not state["Running"]:
        raise Exit(1, "cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise Exit(1, "cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise Exit(1, "cannot attach to a restarting container, wait until it is running")
    tty = document["Config"]["Tty"]
    check_terminal(not options.no_stdin, tty)
    attachment = Attachment(
        cli,
        document["Id"],
        stdin=not options.no_stdin and document["Config"]["OpenStdin"],
        stdout=True,
        stderr=True,
        tty=tty,
        keys=keys,
        proxy=options.sig_proxy and not tty,
    )
    return attachment.attach()
