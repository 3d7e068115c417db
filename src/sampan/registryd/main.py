"""The program `sampan-registry`: serve a registry, verify a configuration, collect garbage."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sampan.errors import InvalidArgument, SampanError

PROGRAM = "sampan-registry"
CONFIGURATION = "REGISTRY_CONFIGURATION_PATH"


def entry() -> None:
    """Run the command line of this process."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        from sampan.registryd import commands
    except ImportError as error:
        sys.stderr.write(f"{PROGRAM}: {error.name} is missing: install sampan[registry]\n")
        return 1
    try:
        status: int = getattr(commands, options.command)(options, _configuration(options.config))
    except SampanError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130  # 128 + SIGINT
    return status


def _configuration(operand: str | None) -> Path:
    path = operand or os.environ.get(CONFIGURATION)
    if not path:
        raise InvalidArgument(
            f"configuration path unspecified: give it as an operand or in {CONFIGURATION}"
        )
    return Path(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("serve", "Serve the registry of a configuration"),
        ("verify", "Say what is wrong with a configuration"),
        ("garbage-collect", "Remove what no manifest needs; the registry must not be running"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(command=name.replace("-", "_"))
        command.add_argument("config", nargs="?", help=f"its file, else ${CONFIGURATION}")
        if name == "garbage-collect":
            command.add_argument("-d", "--dry-run", action="store_true", help="only tell")
            command.add_argument(
                *("-m", "--delete-untagged"),
                action="store_true",
                help="manifests too that no tag leads to",
            )
            command.add_argument("-q", "--quiet", action="store_true", help="tell nothing")
    return parser


if __name__ == "__main__":
    entry()
