"""The help of `sampan` itself: it imports every command, for the first lines of their texts."""

from __future__ import annotations

from sampan.cli.arguments.flags import flags_of
from sampan.cli.arguments.global_options import GlobalOptions
from sampan.cli.arguments.help_text import flag_lines, name_lines, short_text, terminal_width
from sampan.cli.command_tree import COMMANDS, COMMON, GROUPS, PROGRAM, load


def root_help() -> str:
    """Return the list of all commands and global flags."""
    texts = {name: short_text(load(COMMANDS[name])) for name in sorted(COMMANDS)}
    common = {name: texts.pop(name) for name in COMMON}
    groups = {name: about for name, (about, _) in GROUPS.items()}
    return (
        f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\nRun containers, and look after them\n\n"
        f"Common Commands:\n{name_lines(common)}\n"
        f"Management Commands:\n{name_lines(groups)}\n"
        f"Commands:\n{name_lines(texts)}\n"
        f"Global Options:\n{flag_lines(flags_of(GlobalOptions).values(), terminal_width())}\n"
        f"Run '{PROGRAM} COMMAND --help' for more information on a command.\n"
    )
