"""The nftables back-end: one table of ours, changed in transactions by libnftables.

Published ports are elements of two maps, so that publishing one costs a tenth of a millisecond
however many there are. The rules are explained in docs/reference/network.md.
"""

from __future__ import annotations

import ctypes
import errno
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from sampan.network.firewall.firewall import BridgeRules, Forward, Pair, Rules

log = logging.getLogger(__name__)

LIBRARY: Final = "libnftables.so.1"  # Debian: libnftables1
NFT_CTX_OUTPUT_JSON: Final = 1 << 4  # nftables/libnftables.h
NFT_CTX_OUTPUT_TERSE: Final = 1 << 11  # lists of tables are without what is in sets and maps


_ANY: Final = ("0.0.0.0", "::")
_MAPS: Final = {
    f"published{six}{suffix}": (
        f"inet_proto . {address}inet_service : ipv{six or 4}_addr . inet_service"
    )
    for six in ("", "6")
    for suffix, address in (("", f"ipv{six or 4}_addr . "), ("_any", ""))
}
_SETS: Final = {
    f"opened{six}": f"inet_proto . ipv{six or 4}_addr . inet_service" for six in ("", "6")
}
_NO_PORTS: Final[dict[str, Any]] = {"forwards": frozenset()}
_UNPUBLISHED: Final = "ct state new ct status & dnat == 0 drop"


class _Chain(msgspec.Struct):
    policy: str = ""


class _Rule(msgspec.Struct):
    handle: int
    comment: str = ""


class _Item(msgspec.Struct):
    chain: _Chain | None = None
    rule: _Rule | None = None


class _Listing(msgspec.Struct):
    nftables: list[_Item]


def _comment(interface: str) -> str:
    return f"sampan:{interface}"  # of the rules that we put into the host's own chain


class Nftables:
    """Rules in the table `inet <table>`; needs CAP_NET_ADMIN in the namespace where it is used."""

    def __init__(self, table: str = "sampan") -> None:
        self._table = table
        self._context: Any = None
        self._library: Any = None
        self._rules = Rules()
        self._forwards: set[Forward] = set()  # those of the rules, with what has changed since

    def apply(self, rules: Rules) -> None:
        """Put exactly these rules in place of all of ours."""
        self._run(ruleset(self._table, rules))
        self._rules, self._forwards = rules, set(rules.forwards)

    def add(self, forwards: Collection[Forward]) -> None:
        """Add forwards."""
        self._change("add", [forward for forward in forwards if forward not in self._forwards])
        self._forwards.update(forwards)

    def remove(self, forwards: Collection[Forward]) -> None:
        """Take forwards away; those that are gone already are no error."""
        known = [forward for forward in forwards if forward in self._forwards]
        self._forwards.difference_update(known)
        self._change("delete", known)

    def _change(self, verb: str, forwards: Sequence[Forward]) -> None:
        if not forwards:
            return
        lines = [
            f"{verb} element inet {self._table} {_place_of(forward)} {{ {element} }}"
            for forward in forwards
            if (element := _key(forward) if verb == "delete" else _element(forward))
        ]
        try:
            self._run("\n".join(lines))
        except OSError as error:
            # Somebody changed or flushed our table: write it anew, as it should be.
            log.warning("the firewall table is written anew: %s", error)
            after = self._forwards | set(forwards) if verb == "add" else self._forwards
            self._run(ruleset(self._table, replace(self._rules, forwards=frozenset(after))))

    def admit(self, interface: str) -> None:
        """Accept the bridge's traffic first in `filter FORWARD`, if that chain filters at all.

        A packet passes only if every table lets it pass: what iptables drops (dockerd and ufw set
        the policy of FORWARD to DROP), an accept of ours in another table cannot rescue.
        """
        for family in ("ip", "ip6"):
            policy, rules = self._host_chain(family)
            if policy != "drop" and not rules:
                continue
            if [rule.comment for rule in rules[:2]] == [_comment(interface)] * 2:
                continue
            self._dismiss(family, rules, interface)
            head = f"insert rule {family} filter FORWARD"
            self._run(
                f'{head} iifname "{interface}" counter accept comment "{_comment(interface)}"\n'
                f'{head} oifname "{interface}" counter accept comment "{_comment(interface)}"'
            )

    def dismiss(self, interface: str) -> None:
        """Take back `admit`."""
        for family in ("ip", "ip6"):
            self._dismiss(family, self._host_chain(family)[1], interface)

    def _dismiss(self, family: str, rules: Sequence[_Rule], interface: str) -> None:
        ours = [rule for rule in rules if rule.comment == _comment(interface)]
        if ours:
            lines = [f"delete rule {family} filter FORWARD handle {rule.handle}" for rule in ours]
            self._run("\n".join(lines))

    def is_intact(self) -> bool:
        """Tell whether our table has all its rules, and the host's chain those of `admit`."""
        if not self._rules.bridges:
            return True
        try:
            listed = self._run(f"list table inet {self._table}")
        except OSError:
            return False
        present = [
            item for item in msgspec.json.decode(listed, type=_Listing).nftables if item.rule
        ]
        if len(present) != _number_of_rules(
            ruleset(self._table, replace(self._rules, **_NO_PORTS))
        ):
            return False
        wanted = {_comment(bridge.interface) for bridge in self._rules.bridges}
        for family in ("ip", "ip6"):
            policy, rules = self._host_chain(family)
            if (policy == "drop" or rules) and not wanted <= {rule.comment for rule in rules}:
                return False
        return True

    def clear(self) -> None:
        """Remove all of ours."""
        self._run(f"add table inet {self._table}\ndelete table inet {self._table}")
        self._rules, self._forwards = Rules(), set()

    def close(self) -> None:
        """Let go of the library's context; rules stay."""
        if self._context is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def _host_chain(self, family: str) -> tuple[str, list[_Rule]]:
        try:
            listed = self._run(f"list chain {family} filter FORWARD")
            listing = msgspec.json.decode(listed, type=_Listing)
        except OSError:  # iptables was never used here, or is of the old kind
            return "", []
        policies = [item.chain.policy for item in listing.nftables if item.chain]
        return "".join(policies), [item.rule for item in listing.nftables if item.rule]

    def _run(self, commands: str) -> str:
        """Carry out commands as one transaction and return the output; raise OSError."""
        if self._context is None:
            self._open()
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        said = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
        output = self._library.nft_ctx_get_output_buffer(self._context)
        if failed:
            first = said.strip().splitlines()[0] if said.strip() else "no reason given"
            raise OSError(errno.EIO, f"nftables: {first.removeprefix('Error: ')}")
        return str(output.decode(errors="replace"))

    def _open(self) -> None:
        library = ctypes.CDLL(LIBRARY)
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("error", "output"):
            # getattr, as library["…"] is a new function each time, without the types.
            getattr(library, f"nft_ctx_buffer_{name}").argtypes = [ctypes.c_void_p]
            getter = getattr(library, f"nft_ctx_get_{name}_buffer")
            getter.argtypes, getter.restype = [ctypes.c_void_p], ctypes.c_char_p
        library.nft_ctx_free.argtypes, library.nft_ctx_free.restype = [ctypes.c_void_p], None
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        context = library.nft_ctx_new(0)
        if not context:
            raise OSError(errno.ENOMEM, "nftables: no context")
        library.nft_ctx_buffer_error(context)
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_output_set_flags(context, NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_TERSE)
        self._library, self._context = library, context


def redirect_names(address: str, udp_port: int, tcp_port: int) -> None:
    """Lead port 53 of a loopback address of the current namespace to other ports of it."""
    rules = [
        f"ip daddr {address} udp dport 53 dnat to {address}:{udp_port}",
        f"ip daddr {address} tcp dport 53 dnat to {address}:{tcp_port}",
    ]
    text = f"table ip sampan {{\n{_chain('names', 'nat', 'output', '-100', rules)}\n}}\n"
    table = Nftables("sampan")
    try:
        try:
            table._run(f"create table ip sampan\n{text}")
        except OSError:  # those of a resolver that has died; to remove a table takes 5 ms
            table._run(f"add table ip sampan\ndelete table ip sampan\n{text}")
    finally:
        table.close()


def _number_of_rules(text: str) -> int:
    """Return how many rules there are in the text of a table, as `_chain` writes it."""
    lines = text.splitlines()
    return sum(line[:2] == "  " and not line.startswith(("   ", "  type ")) for line in lines)


# --- the text of the rules -------------------------------------------------------------------


def ruleset(table: str, rules: Rules) -> str:
    """Return the commands that replace our table by one with these rules, in one transaction."""
    chains = [
        *(_elements("map", name, kind, rules.forwards) for name, kind in _MAPS.items()),
        *(_elements("set", name, kind, rules.forwards) for name, kind in _SETS.items()),
        _set("bridges", [bridge.interface for bridge in rules.bridges]),
        _set("uplinks", rules.uplinks),
        _set("uplinks6", rules.uplinks6),
        _linked(rules.pairs),
        *_nat_chains(rules.bridges),
        _chain("guard", "filter", "prerouting", "raw", _guard()),
        _chain("forward", "filter", "forward", "filter", list(_filter(rules))),
    ]
    body = "\n".join(chains)
    return f"add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{body}\n}}\n"


def _nat_chains(bridges: Sequence[BridgeRules]) -> list[str]:
    publish = [
        "dnat ip to meta l4proto . ip daddr . th dport map @published",
        "dnat ip to meta l4proto . th dport map @published_any",
        # What comes from ::1 cannot leave the host: a relay listens there.
        "ip6 daddr ::1 return",
        "dnat ip6 to meta l4proto . ip6 daddr . th dport map @published6",
        "dnat ip6 to meta l4proto . th dport map @published6_any",
    ]
    local = ["meta l4proto { tcp, udp, sctp } fib daddr type local jump publish"]
    return [
        _chain("publish", "", "", "", publish),
        _chain("prerouting", "nat", "prerouting", "dstnat", local),
        _chain("output", "nat", "output", "-100", local),
        _chain("postrouting", "nat", "postrouting", "srcnat", list(_masquerade(bridges))),
    ]


def _masquerade(bridges: Sequence[BridgeRules]) -> Iterable[str]:
    # From 127.0.0.1 of the host: the container could not answer to that.
    yield "oifname @bridges ip saddr 127.0.0.0/8 masquerade"
    for bridge in bridges:
        # A container that reaches another one (or itself) through a published port of the host:
        # unless the answer comes back through the host, it comes from the wrong address.
        name = f'"{bridge.interface}"'
        sources = [(f"ip saddr {bridge.subnet}", bridge.mode)]
        sources += [(f"ip6 saddr {bridge.subnet6}", bridge.mode6)] if bridge.subnet6 else []
        for source, mode in sources:
            yield f"oifname {name} {source} ct status dnat masquerade"
            if bridge.masquerade and not bridge.internal and mode != "routed":
                yield f"oifname != @bridges {source} masquerade"


def _guard() -> list[str]:
    # route_localnet, which makes ports published on 127.0.0.1 answer, would also let containers
    # reach the services that listen on the host's loopback.
    # Every packet comes here, so the comparison that is over soonest comes first.
    return ["ip daddr 127.0.0.0/8 iifname @bridges drop"]


def _filter(rules: Rules) -> Iterable[str]:
    # All that follows is about who may begin; what has begun is let go on without a look at it.
    yield "ct state established,related accept"
    if rules.uplinks:
        yield "meta nfproto ipv4 iifname @uplinks oifname @uplinks ct state new drop"
    if rules.uplinks6:
        yield "meta nfproto ipv6 iifname @uplinks6 oifname @uplinks6 ct state new drop"
    for bridge in rules.bridges:
        name = f'"{bridge.interface}"'
        family = "" if bridge.filters6 else "meta nfproto ipv4 "
        if bridge.internal:
            yield f"{family}iifname {name} oifname != {name} drop"
            yield f"{family}oifname {name} iifname != {name} drop"
        if not bridge.inter_container:
            linked = "ip saddr . ip daddr . meta l4proto . th dport @linked accept"
            yield f"iifname {name} oifname {name} {linked}"
            yield f"{family}iifname {name} oifname {name} {_UNPUBLISHED}"
        if bridge.mode == "routed":
            yield f"oifname {name} ip protocol icmp accept"
            yield f"oifname {name} meta l4proto . ip daddr . th dport @opened accept"
        if bridge.mode6 == "routed":
            yield f"oifname {name} meta l4proto ipv6-icmp accept"
            yield f"oifname {name} meta l4proto . ip6 daddr . th dport @opened6 accept"
        # From elsewhere only answers and published ports come in, even if a neighbour of the host
        # has a route to the containers.
        protected = bridge.protected
        for only in [""] if len(protected) == 2 else [f"meta nfproto {it} " for it in protected]:
            yield f"{only}oifname {name} iifname != {name} {_UNPUBLISHED}"
        yield f"{family}oifname {name} ct state invalid drop"


def _chain(name: str, type: str, hook: str, priority: str, rules: Sequence[str]) -> str:
    head = f"type {type} hook {hook} priority {priority}; policy accept;" if hook else ""
    lines = "\n".join(f"  {line}" for line in [head, *rules] if line)
    return f" chain {name} {{\n{lines}\n }}"


def _set(name: str, interfaces: Sequence[str]) -> str:
    elements = ", ".join(f'"{interface}"' for interface in interfaces)
    listed = f"elements = {{ {elements} }}; " if elements else ""
    return f" set {name} {{ type ifname; {listed}}}"


def _linked(pairs: Sequence[Pair]) -> str:
    found = dict.fromkeys(f"{it.client} . {it.server} . {it.protocol} . {it.port}" for it in pairs)
    listed = f"elements = {{ {', '.join(found)} }}; " if found else ""
    kind = "ipv4_addr . ipv4_addr . inet_proto . inet_service"
    return f" set linked {{ type {kind}; {listed}}}"


def _elements(what: str, name: str, kind: str, forwards: Iterable[Forward]) -> str:
    elements = ",\n   ".join(_element(one) for one in forwards if _place_of(one) == name)
    listed = f"elements = {{ {elements} }}; " if elements else ""
    return f" {what} {name} {{ type {kind}; {listed}}}"


def _place_of(forward: Forward) -> str:
    family = "6" if ":" in forward.host_address else ""
    if not forward.host_port:
        return f"opened{family}"
    return f"published{family}" + ("_any" if forward.host_address in _ANY else "")


def _key(forward: Forward) -> str:
    if not forward.host_port:
        return f"{forward.protocol} . {forward.container_address} . {forward.container_port}"
    address = "" if forward.host_address in _ANY else f"{forward.host_address} . "
    return f"{forward.protocol} . {address}{forward.host_port}"


def _element(forward: Forward) -> str:
    if not forward.host_port:
        return _key(forward)
    return f"{_key(forward)} : {forward.container_address} . {forward.container_port}"
