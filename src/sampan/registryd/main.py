"""The program `sampan-registry`: serve a registry, look after it, and after its accounts."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sampan.errors import InvalidArgument, SampanError

PROGRAM = "sampan-registry"
ACCOUNTS = {
    "user": "Users of the token service: add, disable, enable, import, ls, passwd, rm",
    "group": "Groups of users: add, join, leave, ls, rm",
    "rule": "Who may do what: add, ls, rm",
    "session": "Logins that go on, by refresh tokens: ls, rm",
    "key": "Keys that sign tokens: ls, rotate",
}
CONFIGURATION = "REGISTRY_CONFIGURATION_PATH"


def entry() -> None:
    """Run the command line of this process."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    if arguments and arguments[0] in ACCOUNTS:
        options = _accounts(arguments[0]).parse_intermixed_args(arguments[1:])
    else:
        options = _parser().parse_args(arguments)
    try:
        status = _run(options)
    except ModuleNotFoundError as error:  # also of what only some configurations need
        sys.stderr.write(f"{PROGRAM}: {error.name} is missing: install sampan[registry]\n")
        return 1
    except SampanError as error:
        from sampan.registryd.logs import shown

        print(shown(f"{PROGRAM}: {error}"), file=sys.stderr)  # noqa: T201
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130  # 128 + SIGINT
    return status


def _run(options: argparse.Namespace) -> int:
    from sampan.registryd import commands

    path = _configuration(options.config)
    if options.command in ACCOUNTS:
        from sampan.registryd import accounts

        return accounts.run(options, path)
    status: int = getattr(commands, options.command)(options, path)
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
        ("retention", "Remove tags and untagged manifests as the configuration says"),
        ("scrub", "Read all that is stored, and see whether it is damaged"),
        ("quotas", "Tell how much of each quota is in use"),
        ("audit", "Verify that audit logs are what was written"),
        ("garbage-collect", "Remove what no manifest needs; the registry may be running"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(command=name.replace("-", "_"))
        if name != "audit":
            command.add_argument("config", nargs="?", help=f"its file, else ${CONFIGURATION}")
        else:
            command.add_argument("-c", "--config", help=f"its file, else ${CONFIGURATION}")
            command.add_argument("files", nargs="*", help="its files, the oldest first")
        if name == "scrub":
            command.add_argument("--rate", help="bytes a second, such as 50MB (0: any number)")
            command.add_argument("--report", action="store_true", help="only tell")
        if name == "retention":
            command.add_argument("-d", "--dry-run", action="store_true", help="only tell")
        if name == "garbage-collect":
            command.add_argument("-d", "--dry-run", action="store_true", help="only tell")
            command.add_argument(
                *("-m", "--delete-untagged"),
                action="store_true",
                help="manifests too that no tag leads to",
            )
            command.add_argument("--delay", help="how old it must be, such as 2h")
            command.add_argument("-q", "--quiet", action="store_true", help="tell nothing")
    for name, text in ACCOUNTS.items():
        commands.add_parser(name, help=text, parents=[_accounts(name)], add_help=False)
    return parser


def _accounts(name: str) -> argparse.ArgumentParser:
    """Return the parser of a command on accounts: flags may stand between its words."""
    text = ACCOUNTS[name]
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} {name}", description=text, allow_abbrev=False)
    parser.set_defaults(command=name)
    parser.add_argument("-c", "--config", help=f"the configuration, else ${CONFIGURATION}")
    if name == "user":
        parser.add_argument("-g", "--group", action="append", help="of a new user")
        parser.add_argument("--password-stdin", action="store_true", help="do not ask for it")
    if name == "rule":
        parser.add_argument("--type", choices=("repository", "registry"), help="of a new rule")
    if name == "session":
        parser.add_argument("-u", "--user", help="whose sessions end")
    if name == "key":
        parser.add_argument("--now", action="store_true", help="the old keys were stolen")
    parser.add_argument("action", help=text.partition(": ")[2])
    parser.add_argument("words", nargs="*")
    return parser


if __name__ == "__main__":
    entry()
