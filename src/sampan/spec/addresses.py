"""Addresses of the Internet Protocol, as texts."""

from __future__ import annotations


def is_address(text: str) -> bool:
    """Tell whether a text is an IPv4 or IPv6 address; the latter may have a zone: fe80::1%eth0."""
    import ipaddress  # 5 ms, which few command lines need

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
