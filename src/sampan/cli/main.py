"""The command `sampan`: finds the command's module, parses its flags, runs it.

Only the module of the command that was called is imported, so a start costs what it needs.
"""

from __future__ import annotations

import os
import sys

from sampan.cli.arguments.flags import HelpWanted, UsageError, parse
from sampan.cli.arguments.global_options import GlobalOptions, apply
from sampan.cli.command_tree import COMMANDS, GROUPS, OTHER_NAMES, PROGRAM, load
from sampan.cli.display.output import plain
from sampan.cli.invocation import Exit, Invocation
from sampan.errors import SampanError
from sampan.spec.versions import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def entry() -> None:
    """Run the command line of this process and end it with the command's status."""
    try:
        status = main(sys.argv[1:])
    except BrokenPipeError:
        status = _end_by_broken_pipe()
    except KeyboardInterrupt:
        status = 130  # 128 + SIGINT
    # Nothing is left to do that a normal exit of the interpreter would do.
    os._exit(status)


def main(arguments: list[str]) -> int:
    """Run one command line and return its exit status."""
    invocation = Invocation()
    try:
        status = _dispatch(invocation, arguments)
    except Exit as end:
        status = _report(invocation, end.message, end.status)
    except SampanError as error:
        status = _report(invocation, str(error), 1)
    except BrokenPipeError:
        raise
    except OSError as error:
        status = _report(invocation, _sentence(error), 1)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        # Most often an answer that no daemon should give; with -D one sees where.
        if invocation.debug:
            raise
        status = _report(
            invocation, f"unexpected {type(error).__name__}: {error} (-D shows where)", 1
        )
    invocation.out.flush()
    invocation.err.flush()
    return status


def _report(invocation: Invocation, message: str, status: int) -> int:
    invocation.out.flush()
    if message:
        invocation.err.line(plain(message))
    return status


def _sentence(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename is not None else ""
    return f"{name}{(error.strerror or str(error)).lower()}"


def _end_by_broken_pipe() -> int:
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    return 128 + signal.SIGPIPE


def _dispatch(invocation: Invocation, arguments: list[str]) -> int:
    try:
        parsed = parse(GlobalOptions, arguments, interspersed=False)
    except UsageError as error:
        raise Exit(125, _usage(str(error), f"{PROGRAM} [OPTIONS] COMMAND [ARG...]", "")) from None
    except HelpWanted:
        return _print_root_help(invocation)
    if parsed.options.version:
        invocation.out.line(f"Sampan version {VERSION}")
        return 0
    apply(invocation, parsed.options)
    words = parsed.operands
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if not words or words == ["--help"]:
        return _print_root_help(invocation)
    name, *rest = words
    if name in GROUPS:
        return _dispatch_group(invocation, name, rest)
    if name not in COMMANDS:
        raise Exit(
            1,
            f"{PROGRAM}: unknown command: {PROGRAM} {name}\n\n"
            f"Run '{PROGRAM} --help' for more information",
        )
    return run_command(invocation, name, load(COMMANDS[name]), rest)


def _dispatch_group(invocation: Invocation, group: str, words: list[str]) -> int:
    about, commands = GROUPS[group]
    if not words or words[0] in ("--help", "-h"):
        from sampan.cli.arguments import help_text

        texts = {name: help_text.short_text(load(commands[name])) for name in sorted(commands)}
        invocation.out.write(help_text.group_help(group, about, texts))
        return 0
    name = OTHER_NAMES.get(group, {}).get(words[0], words[0])
    if name.startswith("-"):
        kind = "flag: " if name.startswith("--") else f"shorthand flag: {name[1:2]!r} in "
        message = f"unknown {kind}{name.partition('=')[0]}"
        raise Exit(125, _usage(message, f"{PROGRAM} {group}", group))
    if name not in commands:
        message = f"{PROGRAM}: unknown command: {PROGRAM} {group} {name}"
        raise Exit(1, _usage(message, f"{PROGRAM} {group}", group))
    return run_command(invocation, f"{group} {words[0]}", load(commands[name]), words[1:])


def run_command(invocation: Invocation, path: str, module: ModuleType, arguments: list[str]) -> int:
    """Parse a command's flags and operands and run it."""
    invocation.path = path
    try:
        parsed = parse(
            module.Options,
            arguments,
            getattr(module, "INTERSPERSED", True),
            getattr(module, "OWN_H", False),
        )
    except UsageError as error:
        raise Exit(125, _command_usage(str(error), path, module)) from None
    except HelpWanted:
        from sampan.cli.arguments import help_text

        invocation.out.write(help_text.command_help(path, module, help_text.terminal_width()))
        return 0
    for warning in parsed.warnings:
        invocation.err.line(warning)
    complaint = arity_complaint(len(parsed.operands), *module.OPERANDS)
    if complaint:
        message = f"{PROGRAM}: '{PROGRAM} {path}' {complaint}"
        raise Exit(1, _command_usage(message, path, module))
    status: int = module.run(invocation, parsed.options, parsed.operands)
    return status


def arity_complaint(count: int, least: int, most: int | None) -> str:
    """Return what docker says about a wrong number of operands; nothing if it is right."""
    if count >= least and (most is None or count <= most):
        return ""
    if most == 0:
        return "accepts no arguments"
    if least == most:
        return f"requires {least} argument{'s' if least != 1 else ''}"
    if most is None:
        return f"requires at least {least} argument{'s' if least != 1 else ''}"
    if least == 0:
        return f"requires at most {most} argument{'s' if most != 1 else ''}"
    return f"requires at least {least} and at most {most} arguments"


def _command_usage(message: str, path: str, module: ModuleType) -> str:
    from sampan.cli.arguments import help_text

    return _usage(message, help_text.use_line(path, module), path)


def _usage(message: str, use_line: str, path: str) -> str:
    command = f"{PROGRAM} {path}".rstrip()
    return f"{message}\n\nUsage:  {use_line}\n\nRun '{command} --help' for more information"


def _print_root_help(invocation: Invocation) -> int:
    from sampan.cli.arguments.root_help import root_help

    invocation.out.write(root_help())
    return 0


if __name__ == "__main__":
    entry()
