"""Run a command in a running container."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.containers import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = "CONTAINER COMMAND [ARG...]"
ALIASES = "container exec, exec"
OPERANDS = (2, None)
INTERSPERSED = False


class Options:
    changed: set[str]
    detach: bool = flag("d", "Run in the background")
    detach_keys: str = flag("", "Keys that leave the command running", default="")
    env: list[str] = flag(
        "e", "Set a variable; NAME alone takes over its value", kind="list", check=checks.env
    )
    env_file: list[str] = flag("", "Read variables from a file", kind="list")
    interactive: bool = flag("i", "Keep STDIN open")
    privileged: bool = flag("", "Give the command all capabilities")
    tty: bool = flag("t", "Allocate a terminal")
    user: str = flag("u", 'User and group ("name|uid[:group|gid]")', default="")
    workdir: str = flag("w", "Working directory inside the container", default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    container, *command = operands
    keys = options.detach_keys or cli.setting("detachKeys")
    body: dict[str, Any] = {
        "User": options.user,
        "Privileged": options.privileged,
        "Tty": options.tty,
        "AttachStdin": options.interactive and not options.detach,
        "AttachStdout": not options.detach,
        "AttachStderr": not options.detach,
        "DetachKeys": keys,
        "Env": _variables(options) or None,
        "WorkingDir": options.workdir,
        "Cmd": command,
    }
    size: tuple[int, int] | None = None
    if options.tty or keys:
        from sampan.cli.display.terminal import detach_keys, size_of

        detach_keys(keys)
        size = size_of(1)
        if options.tty and size[0]:
            body["ConsoleSize"] = [*size]
    if body["AttachStdin"] and options.tty:
        from sampan.cli.containers.attachment import check_terminal

        check_terminal(True, True)
    exec_id = cli.client.containers.exec(container, body)
    if options.detach:
        cli.client.execs.start_detached(exec_id, options.tty)
        return 0
    return _attached(cli, options, exec_id, keys, size)


def _variables(options: Options) -> list[str]:
    if not options.env_file:
        return options.env
    from sampan.cli.containers.config import file_lines

    return file_lines(options.env_file, "--env-file", inherit=True) + options.env


def _attached(
    cli: Invocation, options: Options, exec_id: str, keys: str, size: tuple[int, int] | None
) -> int:
    from sampan.cli.containers.attachment import DETACHED, open_session
    from sampan.cli.containers.streams import Signals, resizer
    from sampan.cli.invocation import Exit

    execs = cli.client.execs
    tell = None
    if options.tty and cli.out.is_terminal():
        tell = resizer(lambda height, width: execs.resize(exec_id, height, width))
    with Signals(None, tell) as signals:
        connection = execs.start(exec_id, options.tty, size)
        try:
            if tell:
                tell()
            streams = (options.interactive, True, True)
            session = open_session(cli, connection, signals, streams, options.tty, keys)
            if session.run():
                raise Exit(1, DETACHED)
        finally:
            connection.close()
    return int(execs.inspect(exec_id)["ExitCode"] or 0)
