"""Create a container from an image and run it."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.containers.config import refusal
from sampan.cli.containers.creation import build, create
from sampan.cli.containers.flags import ContainerOptions
from sampan.cli.invocation import Exit
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = "IMAGE [COMMAND] [ARG...]"
ALIASES = "container run, run"
OPERANDS = (1, None)
INTERSPERSED = False
OWN_H = True


class Options(ContainerOptions):
    detach: bool = flag("d", "Run in the background and print the container's id")
    detach_keys: str = flag("", "Keys that leave the container running", default="")
    sig_proxy: bool = flag("", "Pass signals on to the process", default=True)


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    body = build(cli, options, operands)
    if options.detach:
        if options.attach:
            raise Exit(1, "conflicting options: cannot specify both --attach and --detach")
        for name in ("AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"):
            body[name] = False
    attached = body["AttachStdin"] or body["AttachStdout"] or body["AttachStderr"]
    keys = options.detach_keys or (cli.setting("detachKeys") if attached else "")
    if keys:
        from sampan.cli.display.terminal import detach_keys

        detach_keys(keys)
    if not options.detach:
        from sampan.cli.containers.attachment import check_terminal

        check_terminal(body["AttachStdin"], body["Tty"])
    try:
        container = create(cli, options, body)
        if attached:
            return _run_attached(cli, options, body, container, keys)
        cli.client.containers.start(container)
    except SampanError as error:
        raise _refusal(cli, str(error)) from None
    cli.out.line(container)
    return 0


def _run_attached(
    cli: Invocation, options: Options, body: dict[str, Any], container: str, keys: str
) -> int:
    from sampan.cli.containers.attachment import Attachment

    attachment = Attachment(
        cli,
        container,
        stdin=body["AttachStdin"],
        stdout=body["AttachStdout"],
        stderr=body["AttachStderr"],
        tty=body["Tty"],
        keys=keys,
        proxy=options.sig_proxy,
    )
    return attachment.start_and_wait("removed" if options.rm else "next-exit", options.rm)


def _refusal(cli: Invocation, message: str) -> Exit:
    missing = ("executable file not found", "no such file or directory")
    forbidden = ("permission denied", "is a directory")
    status = 125
    if any(words in message for words in missing):
        status = 127
    elif any(words in message for words in forbidden):
        status = 126
    return refusal(cli.path, message, status)
