"""Start one or more stopped containers."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag, hidden
from sampan.cli.invocation import Exit
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER [CONTAINER...]"
ALIASES = "container start, start"
OPERANDS = (1, None)


class Options:
    changed: set[str]
    attach: bool = flag("a", "Attach STDOUT and STDERR, and pass signals on")
    detach_keys: str = flag("", "Keys that leave the container running", default="")
    interactive: bool = flag("i", "Attach STDIN")
    checkpoint: str = hidden("", kind="string")
    checkpoint_dir: str = hidden("", kind="string")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    keys = options.detach_keys or cli.setting("detachKeys")
    if keys:
        from sampan.cli.display.terminal import detach_keys

        detach_keys(keys)
    if options.attach or options.interactive:
        if len(operands) > 1:
            raise Exit(1, "you cannot start and attach multiple containers at once")
        return _attached(cli, options, operands[0], keys)
    if options.checkpoint:
        if len(operands) > 1:
            raise Exit(1, "you cannot restore multiple containers at once")
        cli.client.containers.start(operands[0], options.checkpoint, options.checkpoint_dir)
        return 0
    failed = []
    for container in operands:
        try:
            cli.client.containers.start(container)
            cli.out.line(container)
        except SampanError as error:
            cli.out.flush()
            cli.err.line(error)
            failed.append(container)
    if failed:
        raise Exit(1, f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _attached(cli: Invocation, options: Options, name: str, keys: str) -> int:
    from sampan.cli.containers.attachment import Attachment

    document = cli.client.containers.inspect(name)
    tty = document["Config"]["Tty"]
    remove = document["HostConfig"]["AutoRemove"]
    attachment = Attachment(
        cli,
        document["Id"],
        stdin=options.interactive and document["Config"]["OpenStdin"],
        stdout=True,
        stderr=True,
        tty=tty,
        keys=keys,
        proxy=not tty,
    )
    return attachment.start_and_wait("removed" if remove else "next-exit", remove)
