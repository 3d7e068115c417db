"""Judgements on what networks of containers are made of."""

from __future__ import annotations

from sampan.engine.doctor.findings import Finding
from sampan.engine.doctor.probes import Probes


def links(probes: Probes) -> Finding:
    """Bridges and veth pairs."""
    if failures := [reason for reason in (probes.bridge(), probes.veth()) if reason]:
        return Finding(
            "bridge and veth",
            "warning",
            "; ".join(failures),
            "only --network host and none work",
            "modprobe bridge veth; or --bridge=none to do without",
        )
    return Finding("bridge and veth", "ok", "can be made")


def firewall(probes: Probes) -> Finding:
    """nftables, and what the old iptables would do behind its back."""
    if reason := probes.library("libnftables.so.1") or probes.nftables():
        return Finding(
            "firewall",
            "warning",
            reason,
            "containers on a bridge neither reach the outside nor can ports be published",
            "apt-get install libnftables1; a kernel with nf_tables, nft_nat, nft_masq, nft_fib",
        )
    if "filter" in probes.read("/proc/net/ip_tables_names").split():
        return Finding(
            "firewall",
            "note",
            "iptables of the old kind (legacy) filters here",
            "if its FORWARD chain drops, it drops packets of containers; we cannot see it",
            "iptables-legacy -I FORWARD -i sampan0 -j ACCEPT, the same with -o; or iptables-nft",
        )
    return Finding("firewall", "ok", "nftables")


def forwarding(probes: Probes) -> Finding:
    """ip_forward is switched on by us."""
    if probes.read("/proc/sys/net/ipv4/ip_forward").strip() != "1":
        return Finding(
            "forwarding",
            "note",
            "the host does not forward packets",
            "the daemon switches it on when it makes its bridge; interfaces that are there now "
            "still do not forward to one another",
            "sysctl -w net.ipv4.ip_forward=1",
        )
    return Finding("forwarding", "ok", "on")


def ipv6(probes: Probes) -> Finding:
    """Published ports on `::`."""
    if not probes.exists("/proc/net/if_inet6"):
        return Finding(
            "IPv6",
            "note",
            "the host has no IPv6",
            "ports are published on IPv4 addresses only",
            "kernel option ipv6.disable=0",
        )
    return Finding("IPv6", "ok", "the host has it")
