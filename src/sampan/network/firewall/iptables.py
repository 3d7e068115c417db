"""The iptables back-end: chains of Docker's names, each table changed in one batch.

For hosts whose administrators read and write iptables. Rules in chains of the kernel's carry the
comment `sampan`, by which they are found again; all others are in chains of ours, but DOCKER-USER,
which is the administrator's. The rules are explained in docs/reference/network.md.
"""

from __future__ import annotations

import errno
import logging
import re
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sampan.network.firewall.firewall import Forward, Rules
from sampan.network.firewall.iptables_rules import CHAINS, MARK, USER, Ruleset, port_rules

log = logging.getLogger(__name__)

PATIENCE: Final = 30  # seconds, for a lock that somebody else holds
_PROGRAMS: Final = {4: "iptables", 6: "ip6tables"}


@dataclass(slots=True)
class _Saved:
    """What one family has now, by table: chains, and rules as iptables-save prints them."""

    chains: dict[str, set[str]] = field(default_factory=dict)
    rules: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> _Saved:
        found, table = cls(), ""
        for line in text.splitlines():
            if line.startswith("*"):
                table = line[1:]
                found.chains[table], found.rules[table] = set(), []
            elif line.startswith(":"):
                found.chains[table].add(line[1:].partition(" ")[0])
            elif line.startswith("-A "):
                found.rules[table].append(line)
        return found

    def marked(self, table: str) -> list[str]:
        """Return our rules in chains of the kernel's."""
        return [rule for rule in self.rules.get(table, ()) if re.search(_COMMENT, rule)]

    def inside(self, table: str) -> list[str]:
        """Return the rules of our own chains."""
        chains = CHAINS.get(table, ())
        return [rule for rule in self.rules.get(table, ()) if rule.split()[1] in chains]


_COMMENT: Final = rf'--comment "?{MARK}"?( |$)'


class Iptables:
    """Rules by iptables-restore; needs CAP_NET_ADMIN in the namespace where it is used."""

    def __init__(self, owner: str = "sampan") -> None:
        self._owner = owner  # the names of chains are Docker's, whoever it is
        self._rules = Rules()
        self._forwards: set[Forward] = set()  # those of the rules, with what has changed since

    def apply(self, rules: Rules) -> None:
        """Put exactly these rules in place of all of ours."""
        had_six = 6 in self._families
        self._rules, self._forwards = rules, set(rules.forwards)
        for family in {*self._families, *([6] if had_six else [])}:
            self._write(family)

    def add(self, forwards: Collection[Forward]) -> None:
        """Add forwards."""
        new = [forward for forward in forwards if forward not in self._forwards]
        self._forwards.update(new)
        self._change("-A", new)

    def remove(self, forwards: Collection[Forward]) -> None:
        """Take forwards away; those that are gone already are no error."""
        known = [forward for forward in forwards if forward in self._forwards]
        self._forwards.difference_update(known)
        self._change("-D", known)

    def admit(self, interface: str) -> None:
        """Do nothing: our chains come first in FORWARD, and accept."""

    def dismiss(self, interface: str) -> None:
        """Do nothing."""

    def is_intact(self) -> bool:
        """Tell whether as many rules are there as should be."""
        if not self._rules.bridges:
            return True
        for family in self._families:
            saved, wanted = self._save(family), self._ruleset(family)
            for table, rules in wanted.tables().items():
                ours = len(saved.marked(table)) + len(saved.inside(table))
                if ours != len(rules):
                    return False
        return True

    def clear(self) -> None:
        """Remove all of ours; DOCKER-USER stays if the administrator has used it."""
        for family in _PROGRAMS:
            saved = self._save(family)
            if not any(saved.marked(table) for table in CHAINS):
                continue
            lines = []
            for table, chains in CHAINS.items():
                known = [it for it in chains if it in saved.chains.get(table, ())]
                users = [rule for rule in saved.rules.get(table, ()) if f"-A {USER} " in rule]
                if users == [f"-A {USER} -j RETURN"]:
                    known.append(USER)
                lines += [f"*{table}", *(_without(rule) for rule in saved.marked(table))]
                lines += [f":{chain} - [0:0]" for chain in known]
                lines += [*(f"-X {chain}" for chain in known), "COMMIT"]
            self._restore(family, lines)
        self._rules, self._forwards = Rules(), set()

    # --- details -----------------------------------------------------------------------------

    @property
    def _families(self) -> list[int]:
        return [4, 6] if any(bridge.subnet6 for bridge in self._rules.bridges) else [4]

    def _ruleset(self, family: int) -> Ruleset:
        return Ruleset(family, replace(self._rules, forwards=frozenset(self._forwards)))

    def _write(self, family: int) -> None:
        saved = self._save(family)
        _refuse_somebody_else_s(saved)
        lines = []
        for table, rules in self._ruleset(family).tables().items():
            lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in CHAINS[table])]
            if table == "filter" and USER not in saved.chains.get(table, ()):
                lines += [f":{USER} - [0:0]", f"-A {USER} -j RETURN"]
            lines += [*(_without(rule) for rule in saved.marked(table)), *rules, "COMMIT"]
        self._restore(family, lines)

    def _change(self, verb: str, forwards: Sequence[Forward]) -> None:
        for family in self._families:
            lines = []
            of_family = [it for it in forwards if (":" in it.host_address) == (family == 6)]
            for table in ("nat", "filter"):
                rules = [
                    rule.replace("-A", verb, 1)
                    for forward in of_family
                    for rule in port_rules(table, self._rules.bridges, forward)
                ]
                lines += [f"*{table}", *rules, "COMMIT"] if rules else []
            try:
                self._restore(family, lines) if lines else None
            except OSError as error:
                log.warning("the firewall's chains are written anew: %s", error)
                self._write(family)

    def _save(self, family: int) -> _Saved:
        return _Saved.parse(_run([f"{_PROGRAMS[family]}-save"], ""))

    def _restore(self, family: int, lines: Sequence[str]) -> None:
        program = f"{_PROGRAMS[family]}-restore"
        _run([program, "--noflush", f"--wait={PATIENCE}"], "\n".join(lines) + "\n")


def _refuse_somebody_else_s(saved: _Saved) -> None:
    """Keep off chains of these names that are in use by another engine: dockerd."""
    if saved.inside("nat") and not saved.marked("nat"):
        raise OSError(
            errno.EEXIST,
            "the chain DOCKER belongs to another engine on this host: use firewall-backend "
            "nftables beside it",
        )


def _without(rule: str) -> str:
    """Return the command that removes a rule which iptables-save has printed."""
    return "-D" + rule.removeprefix("-A")


def _run(command: list[str], text: str) -> str:
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"{command[0]} does not end") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise OSError(errno.EIO, f"{command[0]}: {said[0] if said else 'no reason given'}")
    return done.stdout
