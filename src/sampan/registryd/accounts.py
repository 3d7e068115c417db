"""Commands of administrators on the accounts of a token service, while it serves or not."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sampan.errors import InvalidArgument
from sampan.registry.auth import htpasswd
from sampan.registry.configuration.document import Checked, load
from sampan.registry.tokens.accounts import Accounts
from sampan.registry.tokens.rules import Rule
from sampan.registryd import token_settings
from sampan.registryd.owner import as_owner

Options = argparse.Namespace
Action = Callable[[Accounts, Checked, Options, Sequence[str]], None]


def _words(words: Sequence[str], *names: str) -> Sequence[str]:
    """Return the operands, of which there must be exactly these."""
    if len(words) != len(names):
        wanted = " ".join(names) or "no operand"
        raise InvalidArgument(f"{wanted} expected, {len(words)} given")
    return words


def _tell(*columns: object) -> None:
    sys.stdout.write("\t".join(map(str, columns)) + "\n")


def _moment(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def _password(options: Options) -> str:
    if options.password_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InvalidArgument("no terminal to ask for a password: use --password-stdin")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise InvalidArgument("the two passwords differ")
    return password


# --- users


def _add_user(accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]) -> None:
    (name,) = _words(words, "NAME")
    accounts.add_user(name, _password(options), options.group or [])


def _set_password(
    accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]
) -> None:
    (name,) = _words(words, "NAME")
    accounts.set_password(name, _password(options))


def _import(accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]) -> None:
    for name, hashed in options.users.items():
        accounts.add_hashed_user(name, hashed.decode(), options.group or [])
        _tell(name)


def _users(accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]) -> None:
    _words(words)
    for user in accounts.users():
        state = "disabled" if user.disabled else "enabled"
        _tell(user.name, state, ",".join(user.groups), _moment(user.created))


def _read_users(words: Sequence[str]) -> dict[str, bytes]:
    (path,) = _words(words, "HTPASSWD_FILE")
    try:
        return htpasswd.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path}: {error}") from error


# --- groups, rules


def _groups(accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]) -> None:
    _words(words)
    for name, members in accounts.groups():
        _tell(name, ",".join(members))


def _add_rule(accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]) -> None:
    subject, pattern, actions = _words(words, "SUBJECT", "PATTERN", "ACTIONS")
    _tell(accounts.add_rule(Rule.parse(subject, options.type or "repository", pattern, actions)))


def _remove_rule(
    accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]
) -> None:
    (number,) = _words(words, "NUMBER")
    if not (number.isascii() and number.isdigit()) or len(number) > 9:
        raise InvalidArgument(f"{number!r} is no number of a rule")
    accounts.remove_rule(int(number))


def _rules(accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]) -> None:
    _words(words)
    for rule in accounts.rules():
        _tell(rule.number, rule.subject, rule.type, rule.pattern, ",".join(rule.actions))


# --- sessions, keys


def _sessions(accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]) -> None:
    _words(words)
    for session in token_settings.sessions(checked, accounts).all():
        _tell(
            *(session.id, session.user, session.service, session.client or "-"),
            *(_moment(session.created), _moment(session.used), _moment(session.expires)),
        )


def _end_sessions(
    accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]
) -> None:
    sessions = token_settings.sessions(checked, accounts)
    if options.user:
        _words(words)
        ended = sessions.end(user=options.user)
    else:
        (key,) = _words(words, "ID")
        ended = sessions.end(id=key)
    if not ended:
        raise InvalidArgument("there is no such login")


def _keys(accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]) -> None:
    _words(words)
    ring = token_settings.key_ring(checked)
    current = ring.current().id
    for key in ring.published():
        state = "signs" if key.id == current else "verifies"
        _tell(key.id, key.algorithm, _moment(key.made), state)


def _rotate(accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]) -> None:
    _words(words)
    _tell(token_settings.key_ring(checked).rotate(options.now))


def _by_name(method: str, *names: str) -> Action:
    """Return the action that is one method of the accounts, with operands of these names."""

    def act(accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]) -> None:
        getattr(accounts, method)(*_words(words, *names))

    return act


def _able(disabled: bool) -> Action:
    def act(accounts: Accounts, checked: Checked, options: Options, words: Sequence[str]) -> None:
        (name,) = _words(words, "NAME")
        accounts.disable(name, disabled)

    return act


ACTIONS: dict[str, dict[str, Action]] = {
    "user": {
        "add": _add_user,
        "disable": _able(True),
        "enable": _able(False),
        "import": _import,
        "ls": _users,
        "passwd": _set_password,
        "rm": _by_name("remove_user", "NAME"),
    },
    "group": {
        "add": _by_name("add_group", "NAME"),
        "join": _by_name("join", "USER", "GROUP"),
        "leave": _by_name("leave", "USER", "GROUP"),
        "ls": _groups,
        "rm": _by_name("remove_group", "NAME"),
    },
    "rule": {"add": _add_rule, "ls": _rules, "rm": _remove_rule},
    "session": {"ls": _sessions, "rm": _end_sessions},
    "key": {"ls": _keys, "rotate": _rotate},
}


def run(options: Options, path: Path) -> int:
    """Do one action on one kind of thing."""
    actions = ACTIONS[options.command]
    if options.action not in actions:
        raise InvalidArgument(
            f"{options.command} {options.action!r}: the actions are {', '.join(actions)}"
        )
    checked = load(path, os.environ)
    wrong = [str(problem) for problem in checked.problems if problem.stops]
    if wrong:
        raise InvalidArgument(f"{path}: {wrong[0]}")
    folder = token_settings.directory(checked)
    if actions[options.action] is _import:  # by whoever we are: it may be root's
        options.users = _read_users(options.words)
    with (
        token_settings.readable(checked),
        as_owner(folder),
        Accounts(folder / token_settings.ACCOUNTS) as accounts,
    ):
        actions[options.action](accounts, checked, options, options.words)
    return 0
