"""Rules of a token service: who may do what, where. They add up; what none grants is refused.

`$user` in a pattern is the name of whoever asks, `$group` each of their groups.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sampan.errors import InvalidArgument
from sampan.registry import names
from sampan.registry.auth.access import Scope
from sampan.registry.errors import RegistryError
from sampan.registry.patterns import Pattern

EVERYBODY, USERS = "everybody", "users"  # with or without a name; with any name
USER, GROUP = "user:", "group:"
ACTIONS = {"repository": ("pull", "push", "delete"), "registry": ("*", "search")}
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
_VARIABLE = re.compile(r"\$\w*")
# The name may hold a port, and so a colon: `repository:host:5000/app:pull`.
_SCOPE = re.compile(r"([a-z0-9]+)(?:\(([a-z0-9]+)\))?:(.+):([a-z*,]*)", re.ASCII)
_SCOPE_LENGTH = 1024


def account(text: str) -> str:
    """Return `text` as the name of a user or a group; raise InvalidArgument."""
    if not _ACCOUNT.fullmatch(text):
        raise InvalidArgument(
            f"{text[:128]!r} is no name for an account: letters, digits, and . _ @ - within"
        )
    return text


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks; without a name, nobody in particular."""

    user: str = ""
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule. `number` is how it is called when it is removed."""

    subject: str
    type: str
    pattern: str
    actions: tuple[str, ...]
    number: int = 0

    @classmethod
    def parse(cls, subject: str, type: str, pattern: str, actions: str) -> Rule:
        """Check what an administrator says; raise InvalidArgument."""
        kind, colon, name = subject.partition(":")
        if colon and f"{kind}:" in (USER, GROUP):
            account(name)
        elif subject not in (EVERYBODY, USERS):
            raise InvalidArgument(
                f"{subject[:128]!r} is nobody: everybody, users, user:NAME or group:NAME"
            )
        known = ACTIONS.get(type)
        if known is None:
            raise InvalidArgument(f"rules are for {' and '.join(ACTIONS)}, not for {type[:64]!r}")
        wanted = known if actions == "all" else tuple(dict.fromkeys(actions.split(",")))
        if not set(wanted) <= set(known):
            raise InvalidArgument(
                f"{actions[:64]!r}: in a {type} one can {', '.join(known)}, or all"
            )
        for variable in _VARIABLE.findall(pattern):
            if variable not in ("$user", "$group"):
                raise InvalidArgument(f"{variable} is no variable: $user and $group are")
        Pattern(pattern)
        return cls(subject, type, pattern, wanted)

    def is_for(self, identity: Identity) -> bool:
        """Tell whether the rule is about somebody."""
        if self.subject == EVERYBODY:
            return True
        if not identity.user:
            return False
        if self.subject == USERS:
            return True
        kind, _, name = self.subject.partition(":")
        return name == identity.user if kind == "user" else name in identity.groups

    def covers(self, identity: Identity, type: str, name: str) -> bool:
        """Tell whether the rule is about something, for somebody whom it is about."""
        if type != self.type:
            return False
        if "$user" in self.pattern and not identity.user:
            return False
        text = self.pattern.replace("$user", identity.user)
        texts = [text]
        if "$group" in text:
            texts = [text.replace("$group", group) for group in identity.groups]
        return any(len(t) <= names.NAME_LENGTH and Pattern(t).matches(name) for t in texts)


def parse_scope(text: str) -> Scope | None:
    """Return what a client asks for; None for what is no scope, and so grants nothing."""
    match = _SCOPE.fullmatch(text) if len(text) <= _SCOPE_LENGTH else None
    if match is None:
        return None
    actions = tuple(dict.fromkeys(action for action in match[4].split(",") if action))
    return Scope(match[1], match[3], actions, match[2] or "")


def grant(rules: Sequence[Rule], identity: Identity, wanted: Sequence[Scope]) -> list[Scope]:
    """Return the part of what is wanted that the rules grant."""
    mine = [rule for rule in rules if rule.is_for(identity)]
    found = []
    for scope in wanted:
        if scope.type == "repository" and not _is_repository(scope.name):
            continue
        granted = {
            action
            for rule in mine
            if rule.covers(identity, scope.type, scope.name)
            for action in rule.actions
        }
        actions = tuple(action for action in scope.actions if action in granted)
        if "*" in scope.actions and scope.type == "repository":
            actions = tuple(action for action in ACTIONS["repository"] if action in granted)
        if actions:
            found.append(Scope(scope.type, scope.name, actions, scope.kind))
    return found


def _is_repository(name: str) -> bool:
    try:
        names.repository(name)
    except RegistryError:
        return False
    return True
